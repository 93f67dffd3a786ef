package waypost.rival;

import java.nio.ByteBuffer;

/**
 * What is kept of a person, at fixed places: when he was last seen, how often in seven days, his cart, when its timer is due, and when he
 * was last sent something.
 */
final class Profile {
    private static final int SEEN = 0;
    private static final int DAY = 8;
    private static final int COUNTS = 16;
    /** Seven days and the one that has begun. */
    private static final int DAYS = 8;
    private static final int CART = COUNTS + DAYS * Integer.BYTES;
    private static final int CENTS = CART + Long.BYTES;
    private static final int DUE = CENTS + Long.BYTES;
    private static final int SENT = DUE + Long.BYTES;
    private static final int LENGTH = SENT + Long.BYTES;
    private static final long DAY_MS = 86_400_000;

    final byte[] bytes;
    private final ByteBuffer fields;

    /** A copy of what is stored; a new one where nothing is. */
    Profile(byte[] stored) {
        bytes = stored == null ? new byte[LENGTH] : stored.clone();
        fields = ByteBuffer.wrap(bytes);
    }

    void seen(long at) {
        fields.putLong(SEEN, Math.max(at, fields.getLong(SEEN)));
        long today = at / DAY_MS;
        long newest = fields.getLong(DAY);
        for (long day = Math.max(newest, today - DAYS) + 1; day <= today; day++) {
            fields.putInt(place(day), 0);
        }
        fields.putLong(DAY, Math.max(newest, today));
        if (today > newest - DAYS) {
            fields.putInt(place(today), fields.getInt(place(today)) + 1);
        }
    }

    private static int place(long day) {
        return COUNTS + (int) (day % DAYS) * Integer.BYTES;
    }

    void cart(long cart, long cents, long due) {
        fields.putLong(CART, cart);
        fields.putLong(CENTS, cents);
        fields.putLong(DUE, due);
    }

    /** No timer any more. */
    void cancel() {
        fields.putLong(DUE, 0);
    }

    void sent(long at) {
        fields.putLong(SENT, at);
    }

    long cart() {
        return fields.getLong(CART);
    }

    long cents() {
        return fields.getLong(CENTS);
    }

    /** 0 where no timer runs. */
    long due() {
        return fields.getLong(DUE);
    }

    /** 0 where nothing was sent yet. */
    long sent() {
        return fields.getLong(SENT);
    }
}
