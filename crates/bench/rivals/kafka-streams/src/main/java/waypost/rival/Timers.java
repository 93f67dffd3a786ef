package waypost.rival;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.PriorityQueue;
import java.util.function.BiConsumer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/** Who is to be looked at when. One that was set again or cancelled may still stand here: the profile knows. */
interface Timers {
    void set(long due, Bytes person);

    /** Takes out all that are due, earliest first. */
    void fire(long now, BiConsumer<Long, Bytes> each);

    /** In memory; a restart finds them in the profiles. */
    final class Heap implements Timers {
        private record Timer(long due, Bytes person) {}

        private final PriorityQueue<Timer> heap = new PriorityQueue<>((a, b) -> Long.compare(a.due, b.due));

        @Override
        public void set(long due, Bytes person) {
            heap.add(new Timer(due, person));
        }

        @Override
        public void fire(long now, BiConsumer<Long, Bytes> each) {
            while (!heap.isEmpty() && heap.peek().due <= now) {
                Timer timer = heap.poll();
                each.accept(timer.due, timer.person);
            }
        }
    }

    /** In a store whose keys begin with the due time. */
    final class Stored implements Timers {
        private static final byte[] NOTHING = new byte[0];
        private final KeyValueStore<Bytes, byte[]> store;
        /** None is due before. */
        private long earliest = 0;

        Stored(KeyValueStore<Bytes, byte[]> store) {
            this.store = store;
        }

        @Override
        public void set(long due, Bytes person) {
            byte[] who = person.get();
            store.put(Bytes.wrap(ByteBuffer.allocate(Long.BYTES + who.length).putLong(due).put(who).array()), NOTHING);
            earliest = Math.min(earliest, due);
        }

        @Override
        public void fire(long now, BiConsumer<Long, Bytes> each) {
            if (now < earliest) {
                return;
            }
            // what is set meanwhile lowers it again
            earliest = Long.MAX_VALUE;
            try (KeyValueIterator<Bytes, byte[]> all = store.all()) {
                while (all.hasNext()) {
                    Bytes key = all.next().key;
                    long due = ByteBuffer.wrap(key.get()).getLong();
                    if (due > now) {
                        earliest = Math.min(earliest, due);
                        return;
                    }
                    store.delete(key);
                    each.accept(due, Bytes.wrap(Arrays.copyOfRange(key.get(), Long.BYTES, key.get().length)));
                }
            }
        }
    }
}
