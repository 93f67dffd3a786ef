//! Putting many letters back, as an operation.

use waypost_proto::control as pb;

use super::{
    name,
    record::{Asked, End, Outcome, Progress, REFUSALS, Record, State, Work},
    service,
    store::Hold,
    walk::Walk,
};
use crate::{
    access::Caller,
    audit::{Act, Line},
    letters::{
        Letter,
        redrive::{AT_ONCE, Redrive},
    },
    names,
    server::Control,
    status::Refusal,
};

// === impl Control ===

impl Control {
    /// Begins it, or only counts.
    pub(crate) async fn bulk_redrive(&self, caller: &Caller, request: pb::BulkRedriveDeadLettersRequest) -> Result<pb::Operation, Refusal> {
        let pb::BulkRedriveDeadLettersRequest { reason, source, again, validate_only, request_id } = request;
        if reason.is_empty() && source.is_empty() {
            return Err(Refusal::Invalid("NOTHING_NAMED", "name a reason or a source".to_owned()));
        }
        for (word, code) in [(&reason, "INVALID_REASON"), (&source, "INVALID_SOURCE")] {
            if !names::is_short(word) {
                return Err(Refusal::Invalid(code, "a reason and a source are one line of at most 200 characters each".to_owned()));
            }
        }
        let (asked, started) = (Asked::of(caller, self.seen_by(caller)?), self.clock.now().millis());
        let until: Vec<_> = self.letters.bounds_of_all().await?.into_iter().map(|(_, end)| end).collect();
        let progress = Progress { next: vec![0; until.len()], until, ..Progress::default() };
        let (work, worker) = (Work::Redrive { reason, source, again }, self.operations.life().to_owned());
        let id = if request_id.is_empty() { hex::encode(self.drawn()) } else { repeated(caller, &work, &request_id)? };
        let state = State { id, work, asked, started, attempt: 0, worker, free: false, progress, trouble: String::new(), end: None };
        if validate_only {
            return self.only_counted(state).await;
        }
        let board = self.operations.fresh().await?;
        if let Some(known) = board.get(&state.id) {
            return Ok(service::told(known, &board, started));
        }
        let line = Line { subject: name(&state.id), ..state.asked.line(Act::Redrive) }.note(state.work.words());
        let (record, id) = (Record::State(Box::new(state.clone())), state.id);
        let board = self.audit.acted(line, self.operations.write(&record)).await?;
        board.get(&id).map(|known| service::told(known, &board, started)).ok_or(Refusal::Internal)
    }

    async fn only_counted(&self, mut state: State) -> Result<pb::Operation, Refusal> {
        let log = self.changes.log();
        let Work::Redrive { again, .. } = &state.work;
        let mut redrive = Redrive::new(self, &*log, state.asked.line(Act::Redrive), *again).await?.only_checking(true);
        let mut walk = Walk::open(&self.letters, &state.progress.next, &state.progress.until).await?;
        loop {
            let choice = redrive.choice();
            let some = walk.some(AT_ONCE, |letter| is_meant(&state, letter) && choice.is_wanted(letter)).await?;
            if some.is_empty() {
                break;
            }
            count(&mut state.progress, &some, redrive.some(&some).await?);
        }
        state.progress.total = Some(state.progress.done);
        state.end = Some(End { at: state.started, outcome: Outcome::Succeeded });
        Ok(pb::Operation { name: String::new(), ..service::shown(&state, None, state.started, state.started) })
    }

    /// Puts letters back until there are no more; how it ended, or nothing where this process gives it up in order.
    pub(super) async fn redrive_all(&self, hold: &Hold) -> Result<Option<Outcome>, Refusal> {
        let state = hold.state();
        let (Work::Redrive { again, .. }, log) = (&state.work, self.changes.log());
        let line = state.asked.line(Act::Redrive).note(name(&state.id));
        let mut redrive = Redrive::held(self, &*log, line, *again, hold).await?;
        if state.progress.total.is_none() && !hold.is_cancelled() {
            let mut walk = Walk::open(&self.letters, &state.progress.next, &state.progress.until).await?;
            let mut total = 0;
            let choice = redrive.choice();
            let is_counted = |letter: &Letter| is_meant(&state, letter) && choice.is_wanted(letter);
            let is_whole = loop {
                let some = tokio::select! {
                    some = walk.some(AT_ONCE, moving(hold, is_counted)) => some?.len() as u64,
                    () = hold.interrupted(false) => break false,
                };
                if some == 0 {
                    break true;
                }
                total += some;
            };
            if is_whole {
                hold.tell(|state| state.progress.total = Some(total)).await?;
            }
        }
        // First what was asked for; once its end is, what an attempt before has begun and maybe not done.
        let mut is_over = hold.is_cancelled();
        let mut walk = Walk::open(&self.letters, &state.progress.next, &state.progress.until).await?;
        loop {
            if hold.is_closing() {
                return Ok(None);
            }
            if hold.is_cancelled() && !is_over {
                is_over = true;
                // From where the last step ended: what was looked at since is not done.
                walk = Walk::open(&self.letters, &hold.state().progress.next, &state.progress.until).await?;
            }
            let choice = redrive.choice();
            let is_next = |letter: &Letter| if is_over { choice.is_begun(letter) } else { choice.is_wanted(letter) };
            let some = tokio::select! {
                some = walk.some(AT_ONCE, moving(hold, |letter| is_meant(&state, letter) && is_next(letter))) => some?,
                () = hold.interrupted(is_over) => continue,
            };
            if some.is_empty() {
                return Ok(Some(if is_over { Outcome::Cancelled } else { Outcome::Succeeded }));
            }
            let outcomes = redrive.some(&some).await?;
            let next = walk.next();
            hold.tell(|state| {
                state.progress.next = next;
                state.trouble.clear();
                count(&mut state.progress, &some, outcomes);
            })
            .await?;
        }
    }
}

/// The same filter; each letter that it looks at is a sign that the attempt goes on.
fn moving(hold: &Hold, wanted: impl Fn(&Letter) -> bool) -> impl Fn(&Letter) -> bool {
    move |letter| {
        hold.moved();
        wanted(letter)
    }
}

/// Whether a letter is one of those that were asked for.
fn is_meant(state: &State, letter: &Letter) -> bool {
    let Work::Redrive { reason, source, .. } = &state.work;
    letter.fits(reason, source) && state.asked.covers(letter.workspace)
}

fn count(progress: &mut Progress, letters: &[Letter], outcomes: Vec<Result<String, String>>) {
    for (letter, outcome) in letters.iter().zip(outcomes) {
        progress.done += 1;
        if let Err(why) = outcome {
            progress.failed += 1;
            if progress.refusals.len() < REFUSALS {
                progress.refusals.push((letter.id.to_string(), why));
            }
        }
    }
    // Some may have come to be wanted since they were counted: one that was discarded, and put back.
    progress.total = progress.total.map(|total| total.max(progress.done));
}

/// The operation of a request that may come again. What it asks, and who, is in it.
fn repeated(caller: &Caller, work: &Work, request_id: &str) -> Result<String, Refusal> {
    let request = names::request_id(request_id)?;
    let mut hasher = blake3::Hasher::new_derive_key("waypost operation id v1");
    hasher.update(request.as_bytes());
    hasher.update(caller.name().as_bytes());
    hasher.update(&serde_json::to_vec(work).unwrap_or_default());
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}
