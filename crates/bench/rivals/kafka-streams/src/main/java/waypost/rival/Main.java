package waypost.rival;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.KeyValueBytesStoreSupplier;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The Kafka Streams application that Waypost is measured beside.
 *
 * <p>{@code --set expert}: stores in memory, timers in a heap, commits a second apart, lz4. {@code --set typical}: RocksDB, timers in a
 * store, commits every 100 ms, no compression. Both exactly once. While a file {@code FOLDER/pause} exists it stands still; {@code
 * FOLDER/processed} says ten times a second how many events it has processed.
 */
public final class Main {
    private Main() {}

    public static void main(String[] words) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int at = 0; at + 1 < words.length; at += 2) {
            options.put(words[at], words[at + 1]);
        }
        boolean expert = switch (required(options, "--set")) {
            case "expert" -> true;
            case "typical" -> false;
            default -> throw new IllegalArgumentException("--set is expert or typical");
        };
        Path folder = Path.of(required(options, "--folder"));
        Admin admin = Admin.create(Map.of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, required(options, "--brokers")));
        Ends ends = new Ends(admin, required(options, "--input"));
        KafkaStreams streams = new KafkaStreams(topology(options, expert, ends), settings(options, expert, folder));
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(20))));
        streams.start();
        while (streams.state() != KafkaStreams.State.ERROR && streams.state() != KafkaStreams.State.NOT_RUNNING) {
            tell(folder);
            ends.look();
            if (Files.exists(folder.resolve("pause")) != streams.isPaused()) {
                if (streams.isPaused()) {
                    streams.resume();
                } else {
                    streams.pause();
                }
            }
            Thread.sleep(100);
        }
        if (streams.state() == KafkaStreams.State.ERROR) {
            Runtime.getRuntime().halt(1);
        }
    }

    private static String required(Map<String, String> options, String name) {
        String value = options.get(name);
        if (value == null) {
            throw new IllegalArgumentException(name + " is missing");
        }
        return value;
    }

    /** Whole at any moment: whoever reads it never finds half a number. */
    private static void tell(Path folder) throws IOException {
        Path fresh = folder.resolve("processed.new");
        Files.writeString(fresh, Long.toString(Carts.PROCESSED.sum()));
        Files.move(fresh, folder.resolve("processed"), StandardCopyOption.ATOMIC_MOVE);
    }

    private static Topology topology(Map<String, String> options, boolean expert, Ends ends) {
        long delay = Long.parseLong(required(options, "--delay-ms"));
        Topology topology = new Topology();
        topology.addSource("events", new ByteArrayDeserializer(), new ByteArrayDeserializer(), required(options, "--input"));
        topology.addProcessor("carts", () -> new Carts(delay, expert, ends), "events");
        topology.addStateStore(store(Carts.PROFILES, expert), "carts");
        if (!expert) {
            topology.addStateStore(store(Carts.TIMERS, false), "carts");
        }
        topology.addSink("sends", required(options, "--output"), new ByteArraySerializer(), new ByteArraySerializer(), "carts");
        return topology;
    }

    private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(String name, boolean inMemory) {
        KeyValueBytesStoreSupplier supplier = inMemory ? Stores.inMemoryKeyValueStore(name) : Stores.persistentKeyValueStore(name);
        return Stores.keyValueStoreBuilder(supplier, Serdes.Bytes(), Serdes.ByteArray()).withCachingEnabled();
    }

    private static Properties settings(Map<String, String> options, boolean expert, Path folder) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, required(options, "--application"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, required(options, "--brokers"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.resolve("state").toString());
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, required(options, "--threads"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, expert ? 1_000 : 100);
        // With no cache every event goes to the changelog by itself; with one, what a person has become by the commit.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, Long.parseLong(required(options, "--cache-mb")) << 20);
        if (expert) {
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        }
        return settings;
    }
}
