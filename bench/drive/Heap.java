import java.util.ArrayList;

/** Fills most of the heap, and drops and makes objects until the time is over: Heap SECONDS */
class Heap {
    public static void main(String[] words) throws InterruptedException {
        long end = System.nanoTime() + Long.parseLong(words[0]) * 1_000_000_000L;
        ArrayList<byte[]> held = new ArrayList<>();
        for (int at = 0; System.nanoTime() < end; at++) {
            byte[] block = new byte[1 << 20];
            java.util.Arrays.fill(block, (byte) 1);
            if (held.size() < 250) {
                held.add(block);
            } else {
                held.set(at % 250, block);
                Thread.sleep(2);
            }
        }
    }
}
