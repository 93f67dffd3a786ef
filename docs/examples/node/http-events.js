// Sends events over HTTP with Segment's SDK: a JSON object a line on standard input, a call each.
//
//     WAYPOST_URL=http://127.0.0.1:8080 WRITE_KEY=… node http-events.js <events.jsonl

import { createInterface } from "node:readline";
import { Analytics } from "@segment/analytics-node";

const analytics = new Analytics({ writeKey: process.env.WRITE_KEY, host: process.env.WAYPOST_URL });

// Told of each call that was given up.
const refused = [];
analytics.on("error", (error) => refused.push(error));

for await (const line of createInterface({ input: process.stdin })) {
  const { message_id: messageId, name: event, identifiers, properties, traits } = JSON.parse(line);
  const userId = identifiers[0].value;
  if (event) {
    analytics.track({ userId, event, properties, messageId });
  } else {
    analytics.identify({ userId, traits, messageId });
  }
}

await analytics.closeAndFlush(); // waits until everything has been sent
for (const { code, reason } of refused) {
  console.log("refused:", code, reason?.message ?? reason);
}
process.exit(refused.length > 0 ? 1 : 0);
