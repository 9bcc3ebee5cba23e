// Jobs whose CPU time, process count or end is easy to get wrong.
// build: gcc -O1 -pthread -o cpu_jobs cpu_jobs.c      use: cpu_jobs NAME [N [MS]]
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static double now(int c){struct timespec t;clock_gettime(c,&t);return t.tv_sec+t.tv_nsec*1e-9;}
static void burn(double ms){double e=now(CLOCK_PROCESS_CPUTIME_ID)+ms/1e3;volatile unsigned x=0;while(now(CLOCK_PROCESS_CPUTIME_ID)<e)for(int i=0;i<2000;i++)x++;}
static void burn_thread(double ms){double e=now(CLOCK_THREAD_CPUTIME_ID)+ms/1e3;volatile unsigned x=0;while(now(CLOCK_THREAD_CPUTIME_ID)<e)for(int i=0;i<2000;i++)x++;}
static int N=100;static double MS=10;static char**A;
static void*thr(void*a){if(MS>0)burn_thread(MS);return a;}
static void*thr_exec(void*a){burn_thread(300);execl("/proc/self/exe",A[0],"burn","1","300",(char*)0);return a;}
static void*thr_fork(void*a){pid_t p=fork();if(!p){burn(300);_exit(0);}waitpid(p,0,0);burn_thread(300);return a;}
static void again(const char*job,int n,double ms){char a[16],b[32];snprintf(a,16,"%d",n);snprintf(b,32,"%g",ms);execl("/proc/self/exe",A[0],job,a,b,(char*)0);_exit(127);}
int main(int c,char**v){
  A=v;const char*j=c>1?v[1]:"";if(c>2)N=atoi(v[2]);if(c>3)MS=atof(v[3]);
#define IS(s) else if(!strcmp(j,s))
  if(!*j)return 2;
  IS("burn"){for(int i=0;i<N;i++)burn(MS);}
  // N deep: each burns MS, forks the next and waits for it; the whole chain collapses within a millisecond
  IS("chain"){for(int i=0;i<N;i++){burn(MS);pid_t p=fork();if(p){waitpid(p,0,0);_exit(0);}}usleep(100000);}
  // the same, and each burns MS again after its child was reaped: the chain collapses slowly
  IS("chain_back"){for(int i=0;i<N;i++){burn(MS/2);pid_t p=fork();if(p){waitpid(p,0,0);burn(MS/2);_exit(0);}}usleep(100000);}
  // the same with an exec at each level
  IS("chain_exec"){burn(MS);if(N>0){pid_t p=fork();if(!p)again("chain_exec",N-1,MS);waitpid(p,0,0);}else usleep(100000);}
  // N deep, nobody waits: each sleeps until the first kills all of them at once; they are orphans then
  IS("chain_killed"){int f[2];if(pipe(f))return 1;pid_t p=fork();if(!p){setpgid(0,0);for(int i=0;i<N;i++){burn(MS);pid_t q=fork();if(q){pause();_exit(0);}}if(write(f[1],"x",1)<0)_exit(1);pause();}
    char b;if(read(f[0],&b,1)<0)return 1;usleep(60000);kill(-p,SIGKILL);usleep(300000);waitpid(p,0,0);usleep(300000);}
  // N deep, each parent exits as soon as it has a child: a process that moves down a chain of orphans
  IS("chain_orphans"){int f[2];if(pipe(f))return 1;pid_t r=fork();if(r){char b;close(f[1]);while(read(f[0],&b,1)>0);waitpid(r,0,0);usleep(300000);return 0;}
    for(int i=0;i<N;i++){burn(MS);pid_t p=fork();if(p)_exit(p<0);}_exit(0);}
  // three levels that all ignore SIGCHLD: nobody ever waits
  IS("ignore"){signal(SIGCHLD,SIG_IGN);for(int i=0;i<N;i++){if(!fork()){burn(MS);for(int k=0;k<3;k++)if(!fork()){burn(MS);if(!fork()){burn(MS);_exit(0);}_exit(0);}usleep(3000*MS);_exit(0);}usleep(5000*MS);}sleep(1);}
  // SA_NOCLDWAIT is set after the tracker has looked: /proc/PID/status shows nothing
  IS("nocldwait"){struct sigaction a={.sa_handler=SIG_DFL,.sa_flags=SA_NOCLDWAIT};sigaction(SIGCHLD,&a,0);for(int i=0;i<N;i++){if(!fork()){burn(MS);_exit(0);}usleep(1200*MS);}sleep(1);}
  // N threads, one after the other, each burns MS (0: nothing) and ends
  IS("threads"){for(int i=0;i<N;i++){pthread_t t;if(!pthread_create(&t,0,thr,0))pthread_join(t,0);}}
  // the same, detached: nobody is woken by their end; one is created each 200 us
  IS("threads_detached"){pthread_attr_t a;pthread_attr_init(&a);pthread_attr_setdetachstate(&a,1);for(int i=0;i<N;i++){pthread_t t;pthread_create(&t,&a,thr,0);usleep(200);}usleep(100000);}
  IS("threads_forked"){for(int i=0;i<N;i++){pthread_t t;pthread_create(&t,0,thr_fork,0);pthread_join(t,0);}}
  IS("exec_by_thread"){pthread_t t;pthread_create(&t,0,thr_exec,0);burn_thread(200);pause();}
  IS("main_exits"){pthread_t t[4];MS=MS*N;for(int i=0;i<4;i++)pthread_create(&t[i],0,thr,0);pthread_exit(0);}
  // siblings by CLONE_PARENT: their parent is the launcher of this program
  IS("clone_parent"){for(int i=0;i<N;i++){long p=syscall(SYS_clone,CLONE_PARENT|SIGCHLD,0,0,0,0);if(!p){burn(MS);_exit(0);}}burn(MS);usleep((int)(N*MS*1000)+500000);}
  // an inner subreaper whose grandchildren are orphans; it waits for them at the very end
  IS("subreaper"){prctl(PR_SET_CHILD_SUBREAPER,1,0,0,0);for(int i=0;i<N;i++){pid_t p=fork();if(!p){burn(MS);if(!fork()){setsid();burn(MS);_exit(0);}_exit(0);}waitpid(p,0,0);}usleep(500000);while(wait(0)>0);burn(MS);}
  // an inner subreaper that never waits and exits before its orphans
  IS("subreaper_leaves"){pid_t r=fork();if(!r){prctl(PR_SET_CHILD_SUBREAPER,1,0,0,0);for(int i=0;i<N;i++){pid_t p=fork();if(!p){if(!fork()){burn(MS);_exit(0);}_exit(0);}}usleep(N*MS*500);_exit(0);}waitpid(r,0,0);usleep(N*MS*1000+300000);}
  IS("exec_chain"){burn(MS);if(N>0)again("exec_chain",N-1,MS);}
  IS("vfork_exit"){for(int i=0;i<N;i++){pid_t p=vfork();if(!p)_exit(0);waitpid(p,0,0);}}
  IS("vfork_exec"){for(int i=0;i<N;i++){pid_t p=vfork();if(!p){execl("/bin/true","true",(char*)0);_exit(1);}waitpid(p,0,0);}}
  IS("forks"){for(int i=0;i<N;i++){pid_t p=fork();if(!p){if(MS>0)burn(MS);_exit(0);}waitpid(p,0,0);}}
  // on one CPU: MS threads that end, whose records fill the ring of perf, then N children at once, until stdin ends
  IS("crowd"){cpu_set_t one;CPU_ZERO(&one);CPU_SET(sched_getcpu(),&one);sched_setaffinity(0,sizeof one,&one);int n=MS;MS=0;for(int i=0;i<n;i++){pthread_t t;if(!pthread_create(&t,0,thr,0))pthread_join(t,0);}
    for(int i=0;i<N;i++)if(!fork()){char b;while(read(0,&b,1)>0);_exit(0);}while(wait(0)>0);}
  // big parent, N forks that end at once: most of their time is the teardown of the address space
  IS("big_forks"){size_t s=(size_t)MS<<20;memset(mmap(0,s,3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0),1,s);for(int i=0;i<N;i++){pid_t p=fork();if(!p)_exit(0);waitpid(p,0,0);}}
  // N children, one after the other, each touches MS MiB and ends: what perf lacks grows with their size
  IS("fill"){size_t s=(size_t)(MS*1048576);for(int i=0;i<N;i++){pid_t p=fork();if(!p){char*m=mmap(0,s,3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0);madvise(m,s,MADV_NOHUGEPAGE);memset(m,1,s);_exit(0);}waitpid(p,0,0);}}
  // a big parent whose forks nobody waits for
  IS("big_ignored"){signal(SIGCHLD,SIG_IGN);size_t s=(size_t)MS<<20;memset(mmap(0,s,3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0),1,s);for(int i=0;i<N;i++){pid_t p=fork();if(!p)_exit(0);usleep(20000);}sleep(1);}
  // the root is killed by its child, which goes on
  IS("kill_root"){pid_t r=getpid();for(int i=0;i<3;i++)if(!fork()){burn(N*MS/2);if(!i)kill(r,SIGKILL);burn(N*MS/2);_exit(0);}pause();}
  IS("kill_children"){for(int i=0;i<5;i++){pid_t p[4];for(int k=0;k<4;k++)if(!(p[k]=fork())){burn(1e6);_exit(0);}usleep(N*MS*200);for(int k=0;k<4;k++)kill(p[k],SIGKILL);if(i%2)while(wait(0)>0);}usleep(200000);}
  // ends by itself while its daemon goes on
  IS("outlive"){if(!fork()){setsid();burn(N*MS);_exit(0);}burn(N*MS/4);}
  IS("stopped"){pid_t p=fork();if(!p){burn(N*MS);_exit(0);}usleep(300000);kill(p,SIGSTOP);sleep(1);kill(p,SIGCONT);waitpid(p,0,0);}
  // a zombie that nobody waits for until the end, with its children dead before it
  IS("late_wait"){for(int i=0;i<N;i++){if(!fork()){pid_t q=fork();if(!q){burn(MS);_exit(0);}waitpid(q,0,0);burn(MS);_exit(0);}}sleep(2);while(wait(0)>0);sleep(1);}
  // writes N MiB by children nobody waits for; reads nothing
  IS("io_ignored"){signal(SIGCHLD,SIG_IGN);char*b=calloc(1,1<<20);for(int i=0;i<N;i++){if(!fork()){char f[64];snprintf(f,64,"/tmp/cpu_jobs.%d",getpid());int d=open(f,O_CREAT|O_WRONLY,0600);if(write(d,b,1<<20)<0)_exit(1);fsync(d);unlink(f);_exit(0);}usleep(20000);}sleep(1);}
  // children are killed as by the OOM killer, the root takes no notice and exits 0
  IS("eat"){size_t s=(size_t)N<<20;for(int i=0;i<(int)MS;i++){pid_t p=fork();if(!p){memset(mmap(0,s,3,MAP_PRIVATE|MAP_ANONYMOUS,-1,0),1,s);sleep(1);_exit(0);}int w;waitpid(p,&w,0);printf("child %d: %s\n",i,WIFSIGNALED(w)?"killed":"ended");fflush(stdout);}}
  else return 2;
  return 0;}
