package shop;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Writes events to waypost.events.v1: a JSON object a line on standard input, a record each.
 *
 * <p>Sending an event again under the same message id changes nothing.
 */
public final class EventProducer implements AutoCloseable {
    private static final String TOPIC = "waypost.events.v1";
    /** A Source of kind kafka: what it may say is in journeys/shop.yaml. */
    private static final String SOURCE = "kafka";
    private static final ObjectMapper JSON = new ObjectMapper();

    private final KafkaProducer<String, byte[]> kafka;
    private final AtomicInteger failed = new AtomicInteger();
    private final int schemaId;
    private final Schema schema;

    /** A producer that writes by the newest version of the subject; it registers none of its own. */
    public EventProducer(String brokers, String registry) throws IOException, InterruptedException {
        JsonNode latest = latest(registry);
        schemaId = latest.get("id").asInt();
        schema = new Schema.Parser().parse(latest.get("schema").asText());
        kafka = new KafkaProducer<>(
                Map.of(
                        ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers,
                        // acknowledged is what every replica in sync has
                        ProducerConfig.ACKS_CONFIG, "all",
                        // a retry of the client neither doubles nor reorders
                        ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, true),
                new StringSerializer(),
                new ByteArraySerializer());
    }

    /** Hands an event over; {@link #close} waits until the broker has it. */
    public void send(JsonNode event) throws IOException {
        // One person, one partition: her events are read in the order in which they were written.
        String who = event.path("identifiers").path(0).path("value").asText(null);
        kafka.send(new ProducerRecord<>(TOPIC, who, framed(envelope(event))), (written, error) -> {
            // What comes here was tried for delivery.timeout.ms: keep the event, and send it again under its message id.
            if (error != null) {
                failed.incrementAndGet();
                System.err.println("not written: " + error.getMessage());
            }
        });
    }

    /** How many events the broker does not have, after {@link #close}. */
    public int failed() {
        return failed.get();
    }

    @Override
    public void close() {
        kafka.close();
    }

    /** Confluent's framing: byte 0, the schema's id, the Avro binary. */
    private byte[] framed(GenericRecord event) throws IOException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream frame = new DataOutputStream(bytes);
        frame.writeByte(0);
        frame.writeInt(schemaId);
        BinaryEncoder avro = EncoderFactory.get().directBinaryEncoder(frame, null);
        new GenericDatumWriter<GenericRecord>(schema).write(event, avro);
        return bytes.toByteArray();
    }

    /** The record of an event; absent fields have their schema's default. */
    private GenericRecord envelope(JsonNode event) {
        Schema identifier = schema.getField("identifiers").schema().getElementType();
        List<GenericRecord> identifiers = new ArrayList<>();
        for (JsonNode one : event.path("identifiers")) {
            GenericRecord record = new GenericData.Record(identifier);
            record.put("class", one.get("class").asText());
            record.put("value", one.get("value").asText());
            identifiers.add(record);
        }
        GenericRecordBuilder record = new GenericRecordBuilder(schema)
                .set("message_id", event.path("message_id").asText())
                .set("name", event.path("name").asText())
                .set("identifiers", identifiers)
                // When it happened, and not when it is sent: an outbox keeps it.
                .set("event_time", event.path("event_time").asLong(System.currentTimeMillis()))
                .set("source", SOURCE);
        for (String json : List.of("properties", "traits", "context")) {
            if (event.has(json)) {
                record.set(json, event.get(json).toString());
            }
        }
        return record.build();
    }

    private static JsonNode latest(String registry) throws IOException, InterruptedException {
        URI uri = URI.create(registry + "/subjects/" + TOPIC + "-value/versions/latest");
        HttpResponse<String> answer = HttpClient.newHttpClient()
                .send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IOException(uri + " answers " + answer.statusCode() + ": " + answer.body());
        }
        return JSON.readTree(answer.body());
    }

    public static void main(String[] args) throws Exception {
        int count = 0;
        EventProducer events = new EventProducer(System.getenv("KAFKA_BROKERS"), System.getenv("SCHEMA_REGISTRY_URL"));
        try (events;
                BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                events.send(JSON.readTree(line));
                count++;
            }
        }
        System.out.printf("%d of %d written%n", count - events.failed(), count);
        System.exit(events.failed() == 0 ? 0 : 1);
    }
}
