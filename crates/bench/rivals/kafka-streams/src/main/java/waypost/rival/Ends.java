package waypost.rival;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;

/**
 * Where the input ends, asked for only while some partition is quiet: whoever has processed everything up to an end that was asked for at
 * an instant knows that nothing older is on its way. Without this a partition that merely waits for its turn would take the wall's time for
 * its own and fire timers whose orders lie unread.
 */
final class Ends {
    /** The ends of all partitions, and when they were asked for. */
    record Known(long at, Map<Integer, Long> ends) {}

    private final Admin admin;
    private final String topic;
    private volatile boolean wanted;
    private volatile Known known = new Known(0, Map.of());

    Ends(Admin admin, String topic) {
        this.admin = admin;
        this.topic = topic;
    }

    /** Somebody is quiet: the answer is there by his next look. */
    Known ask() {
        wanted = true;
        return known;
    }

    /** Asks, if anybody wants to know. */
    void look() throws InterruptedException {
        if (!wanted) {
            return;
        }
        wanted = false;
        long at = System.currentTimeMillis();
        try {
            int partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
            Map<TopicPartition, OffsetSpec> all =
                    IntStream.range(0, partitions)
                            .mapToObj(partition -> new TopicPartition(topic, partition))
                            .collect(Collectors.toMap(place -> place, place -> OffsetSpec.latest()));
            Map<Integer, Long> ends = new HashMap<>();
            admin.listOffsets(all).all().get().forEach((place, found) -> ends.put(place.partition(), found.offset()));
            known = new Known(at, ends);
        } catch (ExecutionException error) {
            // the next look asks again
            System.err.println("the ends of " + topic + " are not known: " + error.getCause());
        }
    }
}
