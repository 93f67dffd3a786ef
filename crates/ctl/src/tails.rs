//! `decisions tail`, `messages tail` and `events tail`: rows as they come, one a line.

use std::io::Write as _;

use clap::Args;
use serde_json::{Value, json};
use tonic::Streaming;
use waypost_proto::control::{
    self as pb, decision_service_client::DecisionServiceClient, event_service_client::EventServiceClient,
    message_service_client::MessageServiceClient, profile_service_client::ProfileServiceClient,
};

use crate::{
    audits,
    cli::Output,
    commands::{Done, Session},
    output,
};

/// Without --follow and without a beginning.
const USUAL: &str = "10m";
/// How the id of a profile begins.
const PROFILE: &str = "prf_";

/// When a tail begins and ends.
#[derive(Debug, Args)]
struct SpanArgs {
    /// Go on with what comes, until ^C; an hour at most
    #[arg(long, short)]
    follow: bool,
    /// From then on: an instant, as 2026-11-23T08:00:00Z, or so long ago, as 10m; with --follow and without it from now on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// All that the topic has kept
    #[arg(long, conflicts_with = "since")]
    from_start: bool,
    /// End after so many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    limit: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// Only of this journey
    #[arg(long, value_name = "NAME")]
    journey: Option<String>,
    /// Only of this person: a profile's id, or an identifier as `profile show` takes it
    #[arg(long, value_name = "ID")]
    profile: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    #[command(flatten)]
    span: SpanArgs,
    /// Only of this name
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only with this identifier, as `profile show` takes it; needs the permission read-people
    #[arg(long, value_name = "ID")]
    identifier: Option<String>,
    /// With the values of identifiers, properties, context and traits; needs the permission read-people
    #[arg(long)]
    values: bool,
}

/// A row as it is shown.
struct Shown {
    json: Value,
    line: String,
    name: String,
}

// === impl SpanArgs ===

impl SpanArgs {
    /// When to begin, ms; none: now.
    fn begin(&self) -> anyhow::Result<Option<i64>> {
        let since = match &self.since {
            _ if self.from_start => return Ok(Some(0)),
            Some(since) => since,
            None if self.follow => return Ok(None),
            None => USUAL,
        };
        audits::instant(since, audits::now()).map(Some)
    }
}

// === impl Session ===

impl Session {
    pub(crate) async fn decisions(&self, wanted: TailArgs) -> anyhow::Result<Done> {
        let request = pb::TailDecisionsRequest {
            parent: self.parent.clone(),
            since: wanted.span.begin()?,
            profile: self.id_of(wanted.profile).await?,
            journey: wanted.journey.unwrap_or_default(),
            follow: wanted.span.follow,
            limit: wanted.span.limit.unwrap_or_default(),
        };
        let rows = DecisionServiceClient::new(self.channel.clone()).tail_decisions(request).await?.into_inner();
        self.print(rows, decision).await
    }

    pub(crate) async fn messages(&self, wanted: TailArgs) -> anyhow::Result<Done> {
        let request = pb::TailMessagesRequest {
            parent: self.parent.clone(),
            since: wanted.span.begin()?,
            profile: self.id_of(wanted.profile).await?,
            journey: wanted.journey.unwrap_or_default(),
            follow: wanted.span.follow,
            limit: wanted.span.limit.unwrap_or_default(),
        };
        let rows = MessageServiceClient::new(self.channel.clone()).tail_messages(request).await?.into_inner();
        self.print(rows, message).await
    }

    pub(crate) async fn events(&self, wanted: EventArgs) -> anyhow::Result<Done> {
        let request = pb::TailEventsRequest {
            parent: self.parent.clone(),
            since: wanted.span.begin()?,
            event: wanted.event.unwrap_or_default(),
            source: wanted.source.unwrap_or_default(),
            identifier: wanted.identifier.unwrap_or_default(),
            values: wanted.values,
            follow: wanted.span.follow,
            limit: wanted.span.limit.unwrap_or_default(),
        };
        let rows = EventServiceClient::new(self.channel.clone()).tail_events(request).await?.into_inner();
        self.print(rows, event).await
    }

    /// A profile's id; empty where nobody is asked for.
    async fn id_of(&self, profile: Option<String>) -> anyhow::Result<String> {
        let identifier = match profile {
            Some(id) if id.starts_with(PROFILE) => return Ok(id),
            Some(identifier) => identifier,
            None => return Ok(String::new()),
        };
        let request = pb::LookupProfileRequest { parent: self.parent.clone(), identifier, read_mask: None };
        Ok(ProfileServiceClient::new(self.channel.clone()).lookup_profile(request).await?.into_inner().id)
    }

    /// Each row at once: whoever waits for it may be another program.
    async fn print<T>(&self, mut rows: Streaming<T>, show: fn(T) -> Shown) -> anyhow::Result<Done> {
        while let Some(row) = rows.message().await? {
            let Shown { json, line, name } = show(row);
            let text = match self.output {
                Output::Table => line,
                Output::Json => json.to_string(),
                Output::Yaml => format!("---\n{}", output::yaml(&json).trim_end()),
                Output::Name => name,
            };
            let mut out = std::io::stdout();
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                // A reader that has gone, as `head` does, is no error.
                break;
            }
        }
        Ok(Done::default())
    }
}

/// What there is of these words, two blanks between them.
fn line<const N: usize>(words: [String; N]) -> String {
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  ")
}

/// JSON in a text, as JSON.
fn detail(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn decision(row: pb::DecisionRow) -> Shown {
    let json = json!({"at": output::time(row.at), "journey": row.journey, "version": row.version, "run": row.run, "key": row.key,
        "what": row.what, "step": row.step, "reason": row.reason, "send": row.send, "cause": row.cause, "profile": row.profile,
        "detail": detail(&row.detail)});
    let by = if row.cause.is_empty() { String::new() } else { format!("by {}", row.cause) };
    let line = line([output::time(row.at), row.profile.clone(), row.journey, row.key, row.what, row.step, row.reason, by]);
    Shown { json, line, name: row.profile }
}

fn message(row: pb::MessageRow) -> Shown {
    let json = json!({"at": output::time(row.at), "name": row.name, "specName": row.spec_name, "journey": row.journey, "step": row.step,
        "run": row.run, "send": row.send, "dispatch": row.dispatch, "channel": row.channel, "provider": row.provider,
        "attempt": row.attempt, "reason": row.reason, "providerId": row.provider_id, "profile": row.profile, "detail": detail(&row.detail)});
    let line = line([output::time(row.at), row.profile, row.journey, row.step, row.channel, row.name, row.reason]);
    Shown { json, line, name: row.send }
}

fn event(row: pb::EventRow) -> Shown {
    let place = format!("{}/{}", row.partition, row.offset);
    let identifiers: Vec<Value> = row.identifiers.iter().map(|i| json!({"class": i.class, "value": i.value})).collect();
    let json = json!({"at": output::time(row.at), "name": row.name, "source": row.source, "messageId": row.message_id,
        "eventTime": row.event_time.map(output::time), "historical": row.historical, "identifiers": identifiers,
        "properties": detail(&row.properties), "context": detail(&row.context), "traits": detail(&row.traits), "place": place});
    let whose = |i: pb::EventIdentifier| if i.value.is_empty() { i.class } else { format!("{}:{}", i.class, i.value) };
    let whose: Vec<_> = row.identifiers.into_iter().map(whose).collect();
    let line = line([output::time(row.at), row.source, row.name, whose.join(" "), row.properties, row.traits]);
    Shown { json, line, name: place }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tail: TailArgs,
    }

    #[derive(Debug, Parser)]
    struct EventLine {
        #[command(flatten)]
        tail: EventArgs,
    }

    #[test]
    fn a_tail_begins_where_it_is_told_to_and_else_where_one_expects() {
        let begin = |flags: &[&str]| Line::parse_from([&["tail"], flags].concat()).tail.span.begin();
        assert_eq!(begin(&["-f"]).unwrap(), None);
        assert_eq!(begin(&["--from-start"]).unwrap(), Some(0));
        assert_eq!(begin(&["-f", "--since", "1970-01-01T00:00:01Z"]).unwrap(), Some(1_000));
        let since = begin(&[]).unwrap().unwrap();
        let ago = audits::now().millis() - since;
        assert!((600_000..660_000).contains(&ago), "{ago}");
        assert!(begin(&["--since", "yesterday"]).is_err());
        assert!(Line::try_parse_from(["tail", "--since", "1h", "--from-start"]).is_err());
        assert!(Line::try_parse_from(["tail", "--limit", "0"]).is_err());
    }

    #[test]
    fn a_row_is_a_line_for_people_and_its_detail_is_json_for_machines() {
        let row = pb::DecisionRow {
            profile: "prf_1".into(),
            at: 1_000,
            journey: "cart".into(),
            what: "REFUSED".into(),
            reason: "NO_CONSENT".into(),
            cause: "Product Added".into(),
            detail: r#"{"checks":[]}"#.into(),
            ..pb::DecisionRow::default()
        };
        let shown = decision(row);
        assert!(shown.line.ends_with("  prf_1  cart  REFUSED  NO_CONSENT  by Product Added"), "{}", shown.line);
        assert_eq!(shown.json["detail"], json!({"checks": []}));
        let row = pb::EventRow {
            name: "Page Viewed".into(),
            source: "shop".into(),
            identifiers: vec![pb::EventIdentifier { class: "email".into(), value: String::new() }],
            properties: r#"{"url":"text of 9"}"#.into(),
            partition: 3,
            offset: 7,
            ..pb::EventRow::default()
        };
        let shown = event(row);
        assert!(shown.line.ends_with(r#"shop  Page Viewed  email  {"url":"text of 9"}"#), "{}", shown.line);
        assert_eq!((shown.name.as_str(), &shown.json["properties"]["url"]), ("3/7", &json!("text of 9")));
        assert!(EventLine::try_parse_from(["tail", "-f", "--values", "--identifier", "user_id:u1"]).unwrap().tail.values);
        let shown = message(pb::MessageRow { send: "snd_1".into(), name: "Message Accepted".into(), ..pb::MessageRow::default() });
        assert_eq!((shown.name.as_str(), shown.line.as_str()), ("snd_1", "Message Accepted"));
    }
}
