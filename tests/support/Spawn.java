/** Spawn COMMAND...: three children, one after another. */
class Spawn {
    public static void main(String[] words) throws Exception {
        for (int i = 0; i < 3; i++)
            if (new ProcessBuilder(words).inheritIO().start().waitFor() != 0)
                System.exit(1);
    }
}
