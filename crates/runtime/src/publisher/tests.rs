//! What an acknowledgement counts for, and what goes again after a failure.

use waypost_types::WorkspaceId;

use super::*;

const Q: Destination = Destination::Inbox(PartitionId { role: Role::Segmenter, index: 0 });
const NOW: Timestamp = Timestamp::from_millis(1_000);

fn item(seq: u64, size: usize) -> Item {
    let record = Record::new(1, WorkspaceId::new(1), [0; 16], Bytes::new(), NOW, Bytes::new());
    Item { seq, chain: seq, size, content: Content::Record(std::sync::Arc::new(record)) }
}

fn ready(config: &Config) -> Publisher {
    let mut publisher = Publisher::new(Role::Identity);
    let mut commands = Vec::new();
    publisher.append_own(9, Own::Proposals, Vec::new());
    publisher.flush(NOW, config, &mut commands);
    assert_eq!(commands, [Command::NewProducer(1)], "asked for when it is needed");
    publisher.producer_ready(1);
    let sent = flush(&mut publisher, NOW, config);
    publisher.produced(NOW, config, sent[0].0, Ok(0));
    publisher
}

/// Worker, first number and how many, a section.
type Sections = Vec<(u32, u64, usize)>;

/// Frames sent: number, and per section worker, first and how many.
fn flush(publisher: &mut Publisher, now: Timestamp, config: &Config) -> Vec<(u64, Sections)> {
    let mut commands = Vec::new();
    publisher.flush(now, config, &mut commands);
    let frames = commands.into_iter().filter_map(|command| {
        if let Command::Produce(number, _, Produced::Frame(bytes)) = command {
            let sections = Frame::decode(bytes).unwrap().sections;
            Some((
                number,
                sections.iter().map(|s| s.source.map_or((0, 0, 0), |from| (from.partition, from.first, s.records.len()))).collect(),
            ))
        } else {
            None
        }
    });
    frames.collect()
}

#[test]
fn several_workers_share_a_frame() {
    let config = Config::default();
    let mut publisher = ready(&config);
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(1, 10));
    publisher.put(Waits::none(NOW), &Q, 3, 2, 7, item(8, 10));
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(2, 10));
    let sent = flush(&mut publisher, NOW, &config);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1, [(0, 1, 2), (3, 8, 1)]);
    publisher.produced(NOW, &config, sent[0].0, Ok(5));
    assert_eq!((publisher.acknowledged(&Q, 0), publisher.acknowledged(&Q, 3)), (Some(2), Some(8)));
    assert!(publisher.is_idle());
}

#[test]
fn behind_a_frame_in_flight_outputs_wait_two_milliseconds_or_64_kib() {
    let config = Config::default();
    let mut publisher = ready(&config);
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(1, 10));
    assert_eq!(flush(&mut publisher, NOW, &config).len(), 1, "an idle lane sends at once");
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(2, 10));
    assert_eq!(flush(&mut publisher, NOW, &config), []);
    assert_eq!(publisher.next_wake(&config), Some(NOW.plus(Span::from_millis(2))));
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(3, 64 << 10));
    assert_eq!(flush(&mut publisher, NOW, &config).len(), 1, "enough has gathered");
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(4, 10));
    assert_eq!(flush(&mut publisher, NOW.plus(Span::from_millis(2)), &config).len(), 1, "it has waited");
}

#[test]
fn what_was_read_late_waits_for_company_a_tenth_as_long_again() {
    let config = Config::default();
    let late = |by: i64| Waits::new(NOW, NOW.minus(Span::from_millis(by)), &config);
    for (by, wait) in [(0, 0), (1_000, 0), (1_080, 8), (1_500, 50), (60_000, 50)] {
        let mut publisher = ready(&config);
        publisher.put(late(by), &Q, 0, 1, 0, item(1, 10));
        assert_eq!(publisher.next_wake(&config), Some(NOW.plus(Span::from_millis(wait))), "{by} ms late");
        assert_eq!(flush(&mut publisher, NOW.plus(Span::from_millis(wait - 1)), &config), []);
        assert_eq!(flush(&mut publisher, NOW.plus(Span::from_millis(wait)), &config).len(), 1);
    }
    let mut publisher = ready(&config);
    publisher.put(late(1_500), &Q, 0, 1, 0, item(1, 10));
    publisher.put(late(1_020), &Q, 3, 1, 0, item(1, 10));
    assert_eq!(publisher.next_wake(&config), Some(NOW.plus(Span::from_millis(2))), "who is in a hurry takes the others along");
    publisher.hurry(5);
    assert_eq!(flush(&mut publisher, NOW, &config), [], "whose is not there");
    publisher.hurry(0);
    assert_eq!(flush(&mut publisher, NOW, &config).len(), 1, "whose partition is given back");
}

#[test]
fn no_more_than_four_frames_fly_to_one_destination() {
    let config = Config { frame_records: 1, frame_eager_bytes: 0, ..Config::default() };
    let mut publisher = ready(&config);
    for seq in 1..=6 {
        publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(seq, 10));
    }
    let sent = flush(&mut publisher, NOW, &config);
    assert_eq!(sent.len(), 4);
    assert_eq!(publisher.next_wake(&config), None);
    publisher.produced(NOW, &config, sent[0].0, Ok(0));
    assert_eq!(flush(&mut publisher, NOW, &config).len(), 1);
}

#[test]
fn on_any_error_everything_unacknowledged_goes_again() {
    let config = Config { frame_records: 1, frame_eager_bytes: 0, ..Config::default() };
    let mut publisher = ready(&config);
    for seq in 1..=3 {
        publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(seq, 10));
    }
    let sent = flush(&mut publisher, NOW, &config);
    publisher.produced(NOW, &config, sent[2].0, Ok(7));
    let report = publisher.produced(NOW, &config, sent[0].0, Err(AppendError::Failed("away".to_owned())));
    assert!(report.reset);
    // Acknowledged by the producer that is gone.
    publisher.produced(NOW, &config, sent[1].0, Ok(6));
    assert_eq!(publisher.acknowledged(&Q, 0), Some(0));
    let mut commands = Vec::new();
    publisher.flush(NOW, &config, &mut commands);
    assert_eq!(commands, [Command::NewProducer(2)]);
    publisher.producer_ready(1);
    assert!(!publisher.ready(), "the old one is not it");
    publisher.producer_ready(2);
    let again: Vec<_> = flush(&mut publisher, NOW, &config).into_iter().flat_map(|(_, sections)| sections).collect();
    assert_eq!(again, [(0, 1, 1), (0, 2, 1), (0, 3, 1)]);
}

#[test]
fn repeated_failures_are_paced() {
    let config = Config::default();
    let mut publisher = ready(&config);
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(1, 10));
    for (life, pause) in [(2, 0), (3, 20), (4, 40), (5, 80)] {
        let sent = flush(&mut publisher, NOW, &config);
        publisher.produced(NOW, &config, sent[0].0, Err(AppendError::Full));
        assert_eq!(publisher.next_wake(&config), Some(NOW.plus(Span::from_millis(pause))));
        flush(&mut publisher, NOW.plus(Span::from_secs(1)), &config);
        publisher.producer_ready(life);
    }
}

#[test]
fn acknowledgements_of_an_earlier_life_are_void() {
    let config = Config::default();
    let mut publisher = ready(&config);
    publisher.put(Waits::none(NOW), &Q, 0, 1, 0, item(1, 10));
    let sent = flush(&mut publisher, NOW, &config);
    publisher.close(0);
    publisher.put(Waits::none(NOW), &Q, 0, 2, 0, item(1, 10));
    publisher.produced(NOW, &config, sent[0].0, Ok(0));
    assert_eq!(publisher.acknowledged(&Q, 0), Some(0));
}

#[test]
fn leaders_and_proposals_go_again_and_ticks_do_not() {
    let config = Config::default();
    let mut publisher = ready(&config);
    for what in [Own::Leader(1), Own::Tick(1), Own::Proposals] {
        publisher.append_own(0, what, Vec::new());
    }
    let sent = flush(&mut publisher, NOW, &config);
    let report = publisher.produced(NOW, &config, sent[0].0, Err(AppendError::Failed("away".to_owned())));
    assert_eq!(report.lost_ticks, [(0, 1)]);
    flush(&mut publisher, NOW, &config);
    publisher.producer_ready(2);
    assert_eq!(flush(&mut publisher, NOW, &config).len(), 2);
    assert!(publisher.own_pending(0));
}

#[test]
fn an_output_that_no_producer_takes_names_its_worker() {
    let config = Config::default();
    let mut publisher = ready(&config);
    publisher.put(Waits::none(NOW), &Q, 4, 1, 0, item(1, 10));
    let sent = flush(&mut publisher, NOW, &config);
    let error = AppendError::TooLarge { topic: "wp1.segment".to_owned(), bytes: 9 };
    let report = publisher.produced(NOW, &config, sent[0].0, Err(error));
    assert!(report.refused.contains_key(&4));
}
