//! What is told of records whose trace is kept, by OpenTelemetry's names for messaging.

use waypost_types::trace::{SpanKind, Told, Value};

use super::Driver;
use crate::machine::Traced;

impl Driver {
    /// Tells what was folded since.
    pub(super) fn tell_traced(&mut self) {
        let traced = self.machine.take_traced();
        if traced.is_empty() {
            return;
        }
        let until = self.ports.clock.now();
        let role = self.machine.role();
        let inbox = role.inbox().unwrap_or_default();
        let (topic, layout) = (format!("{}{inbox}", self.settings.prefix), self.settings.install.layout);
        let group = format!("{}waypost.{layout}.{role}", self.settings.prefix);
        for Traced { partition, position, kind, sent, here, appended, at } in traced {
            let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
            self.ports.traces.tell(Told {
                name: format!("process {topic}"),
                kind: SpanKind::Consumer,
                context: here,
                parent: Some(sent),
                from: at,
                until,
                attributes: vec![
                    ("messaging.system", Value::Text("kafka".to_owned())),
                    ("messaging.operation.type", Value::Text("process".to_owned())),
                    ("messaging.destination.name", Value::Text(topic.clone())),
                    ("messaging.destination.partition.id", Value::Text(partition.to_string())),
                    ("messaging.consumer.group.name", Value::Text(group.clone())),
                    ("messaging.kafka.offset", number(position.offset)),
                    ("waypost.role", Value::Text(role.to_string())),
                    ("waypost.record.index", number(u64::from(position.index))),
                    ("waypost.record.kind", Value::Number(i64::from(kind))),
                    ("waypost.waited_ms", Value::Number(at.since(appended).millis())),
                ],
                failed: false,
            });
        }
    }
}
