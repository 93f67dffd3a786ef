package waypost.rival;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * CART-1: a cart (re)starts a timer, an order cancels it; when it fires, the cart is worth 20 and nothing was sent in 24 h, one send goes
 * out.
 *
 * <p>An event is its kind, its time, the cart's value and number at fixed places; what follows, the event as the shop said it, is nobody's
 * business here. Time is that of the events, so that a backlog decides as live traffic would have; where none come for half a second, and
 * none lie there, it is the wall's.
 */
final class Carts implements Processor<byte[], byte[], byte[], byte[]> {
    static final String PROFILES = "profiles";
    static final String TIMERS = "timers";
    /** Events processed, by all threads. */
    static final LongAdder PROCESSED = new LongAdder();

    private static final byte CART = 1;
    private static final byte ORDER = 2;
    private static final int AT = 1;
    private static final int CENTS = 9;
    private static final int NUMBER = 17;
    private static final long WORTH_CENTS = 2_000;
    private static final long APART_MS = 24 * 3_600_000L;
    private static final long IDLE_MS = 500;

    private final long delay;
    private final boolean inMemory;
    private final Ends ends;
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> profiles;
    private Timers timers;
    private long now;
    private long processed;
    private long processedBefore;
    private long idleSince;
    /** The next offset; until an event has come nobody here knows it, and only an empty partition is known to be at its end. */
    private long next;

    Carts(long delay, boolean inMemory, Ends ends) {
        this.delay = delay;
        this.inMemory = inMemory;
        this.ends = ends;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        profiles = context.getStateStore(PROFILES);
        idleSince = context.currentSystemTimeMs();
        if (inMemory) {
            timers = new Timers.Heap();
            try (KeyValueIterator<Bytes, byte[]> all = profiles.all()) {
                all.forEachRemaining(
                        known -> {
                            long due = new Profile(known.value).due();
                            if (due != 0) {
                                timers.set(due, known.key);
                            }
                        });
            }
        } else {
            timers = new Timers.Stored(context.getStateStore(TIMERS));
        }
        context.schedule(Duration.ofMillis(100), PunctuationType.WALL_CLOCK_TIME, this::quiet);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        ByteBuffer event = ByteBuffer.wrap(record.value());
        long at = event.getLong(AT);
        now = Math.max(now, at);
        timers.fire(now, this::due);
        Bytes person = Bytes.wrap(record.key());
        Profile profile = new Profile(profiles.get(person));
        profile.seen(at);
        byte kind = event.get(0);
        if (kind == CART) {
            long due = at + delay;
            profile.cart(event.getLong(NUMBER), event.getLong(CENTS), due);
            timers.set(due, person);
        } else if (kind == ORDER) {
            profile.cancel();
        }
        profiles.put(person, profile.bytes);
        next = context.recordMetadata().orElseThrow().offset() + 1;
        processed++;
        PROCESSED.increment();
    }

    /** Nothing has come for a while: time passes all the same. */
    private void quiet(long wall) {
        if (processed != processedBefore) {
            processedBefore = processed;
            idleSince = wall;
        } else if (wall - idleSince >= IDLE_MS) {
            Ends.Known known = ends.ask();
            if (known.ends().getOrDefault(context.taskId().partition(), Long.MAX_VALUE) <= next) {
                now = Math.max(now, known.at());
                timers.fire(now, this::due);
            }
        }
    }

    private void due(long due, Bytes person) {
        Profile profile = new Profile(profiles.get(person));
        if (profile.due() != due) {
            return;
        }
        profile.cancel();
        if (profile.cents() >= WORTH_CENTS && (profile.sent() == 0 || due - profile.sent() >= APART_MS)) {
            profile.sent(due);
            context.forward(new Record<>(person.get(), send(profile, due, person), due));
        }
        profiles.put(person, profile.bytes);
    }

    /** Its id, which any replay gives again, the due time, the cart's number and value, and to whom. */
    private static byte[] send(Profile profile, long due, Bytes person) {
        byte[] who = person.get();
        UUID id = UUID.nameUUIDFromBytes(
                ByteBuffer.allocate(2 * Long.BYTES + who.length).putLong(due).putLong(profile.cart()).put(who).array());
        return ByteBuffer.allocate(5 * Long.BYTES + who.length)
                .putLong(id.getMostSignificantBits())
                .putLong(id.getLeastSignificantBits())
                .putLong(due)
                .putLong(profile.cart())
                .putLong(profile.cents())
                .put(who)
                .array();
    }
}
