import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/**
 * JavaSpawn [--count 3] [--program /bin/true] [--threads 1]: ProcessBuilder.start, which blocks until
 * end-of-file of the errpipe; each thread calls it count times.
 *
 * <p>The JVM option -Djdk.lang.Process.launchMechanism chooses POSIX_SPAWN, VFORK or FORK.
 */
public final class JavaSpawn {
    private static String option(List<String> arguments, String name, String otherwise) {
        int at = arguments.indexOf(name);
        return at < 0 ? otherwise : arguments.get(at + 1);
    }

    private static void emit(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void spawn(String program) {
        Process child = null;
        long start = System.nanoTime();
        try {
            child = new ProcessBuilder(program).start();
        } catch (IOException failure) {
            // reported below
        }
        double seconds = (System.nanoTime() - start) / 1e9;
        emit(
                String.format(
                        "{\"kind\": \"spawn\", \"pid\": %d, \"child\": %s, \"seconds\": %.9f, \"failed\": %b}",
                        ProcessHandle.current().pid(),
                        child == null ? "null" : child.pid(),
                        seconds,
                        child == null));
        if (child != null) {
            child.onExit().join();
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        List<String> given = List.of(arguments);
        int count = Integer.parseInt(option(given, "--count", "3"));
        String program = option(given, "--program", "/bin/true");
        List<Thread> threads = new ArrayList<>();
        for (int n = Integer.parseInt(option(given, "--threads", "1")); n > 0; n--) {
            Thread thread =
                    new Thread(
                            () -> {
                                for (int spawned = 0; spawned < count; spawned++) {
                                    spawn(program);
                                }
                            });
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
        emit("{\"kind\": \"done\", \"spawns\": " + count * threads.size() + "}");
    }
}
