/* A tool in a cgroup of its own: this program stands under the tool's name, moves itself and becomes the tool.
 *
 * The folder that it lies in holds a file NAME.tool with four lines: NAME, the tool, the cgroup.procs file, and a log.
 * One line of the log: NAME, from which tool it was started (CAME_FROM), and the CPU nanoseconds that the process had
 * used before and after the move; what it used before is counted where it came from. The same file name gives the same
 * `comm` before and after. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long used(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int add_line(const char *path, int flags, const char *text, int length) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | flags, 0644);
    return fd < 0 || write(fd, text, length) != length || close(fd);
}

int main(int argc, char **argv) {
    char path[4096], text[12288], line[256], *name, *tool, *procs, *log;
    (void)argc;
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 8);
    if (length < 0)
        return 125;
    strcpy(path + length, ".tool");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    length = read(fd, text, sizeof text - 1);
    if (fd < 0 || length < 0)
        return 125;
    close(fd);
    text[length] = 0;
    name = strtok(text, "\n");
    tool = strtok(NULL, "\n");
    procs = strtok(NULL, "\n");
    log = strtok(NULL, "\n");
    long long before = used();
    if (add_line(procs, 0, "0", 1))
        return 125;
    const char *from = getenv("CAME_FROM");
    int size = snprintf(line, sizeof line, "%s %s %lld %lld\n", name, from ? from : "-", before, used());
    if (add_line(log, O_CREAT | O_APPEND, line, size) || setenv("CAME_FROM", name, 1))
        return 125;
    argv[0] = tool; /* the driver of the compiler finds its parts from its own path */
    execv(tool, argv);
    return 126;
}
