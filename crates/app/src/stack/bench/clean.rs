//! Everybody of a run is erased, as `waypostctl profile erase` does it (PROTOCOL §10.7), and it is asked what is left of them.

use std::time::Duration;

use anyhow::{bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;
use waypost_control::{Act, Kept, Line, LookupError, Place, erase_record, kept};
use waypost_runtime::{
    door::Door as _,
    host::{OsEntropy, SystemClock},
    ports::{Clock as _, Entropy as _},
};
use waypost_types::{IdentifierClass, PartitionId, ProfileId, Role};

use super::{plan::Run, site::Site};

/// Records of one append, and appends at once.
const CHUNK: u64 = 500;
const APPENDS: usize = 4;
/// Questions at once.
const QUESTIONS: usize = 64;
/// How long nothing may get better.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Erases everybody; answers, with whose mark is left, when nothing else is.
pub(super) async fn erase(site: &Site, run: &Run, by: &str) -> anyhow::Result<Vec<ProfileId>> {
    let line = Line::new(by, Act::Erase, format!("bench/{run}"));
    site.audit.write(line.note(format!("{} made-up people at most", run.people))).await?;
    let key = site.record.hash_key();
    stream::iter((0..run.people).step_by(usize::try_from(CHUNK)?))
        .map(|first| async move {
            let at = SystemClock.now();
            let record = |person| {
                let place = Place { class: IdentifierClass::UserId, hash: run.hash(&key, person) };
                (Role::Identity, erase_record(run.workspace, place, fresh_id(), at))
            };
            site.door.append((first..run.people.min(first + CHUNK)).map(record).collect()).await
        })
        .buffer_unordered(APPENDS)
        .try_collect::<Vec<()>>()
        .await?;
    // before identity has folded them nobody knows who is still to come
    folded(site, Role::Identity).await?;
    let mut left: Vec<u64> = (0..run.people).collect();
    let (mut marks, mut better) = (Vec::new(), Instant::now());
    loop {
        let before = left.len();
        let (still, trouble) = look(site, run, left, &mut marks).await?;
        if still.is_empty() {
            return Ok(marks);
        }
        if still.len() < before {
            better = Instant::now();
        }
        ensure!(
            better.elapsed() < PATIENCE,
            "{} of its people are still there{}",
            still.len(),
            trouble.map_or_else(String::new, |why| format!(" ({why})"))
        );
        left = still;
        tokio::time::sleep(LOOK).await;
    }
}

/// Of whom there still is more than a mark, and why that is not known of somebody.
async fn look(site: &Site, run: &Run, people: Vec<u64>, marks: &mut Vec<ProfileId>) -> anyhow::Result<(Vec<u64>, Option<LookupError>)> {
    let (key, layout) = (site.record.hash_key(), site.record.layout());
    let mut asked = stream::iter(people)
        .map(|person| async move { (person, kept(&site.owners, layout, run.workspace, run.hash(&key, person)).await) })
        .buffer_unordered(QUESTIONS);
    let (mut still, mut trouble) = (Vec::new(), None);
    while let Some((person, answer)) = asked.next().await {
        match answer {
            Ok(Kept::Nothing) => {}
            Ok(Kept::Mark(profile)) => marks.push(profile),
            Ok(Kept::Something(_)) => still.push(person),
            // owners change; somebody will answer
            Err(error @ LookupError::Owners(_)) => {
                trouble = Some(error);
                still.push(person);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((still, trouble))
}

/// Waits until a role has folded what stands in its logs now.
async fn folded(site: &Site, role: Role) -> anyhow::Result<()> {
    let mut behind = Vec::new();
    for index in 0..site.record.partitions {
        let (_, end) = site.log.watermarks(&format!("{}{}", site.prefix, role.inbox().unwrap_or_default()), index).await?;
        behind.push((PartitionId { role, index }, end));
    }
    let (mut far, mut better) = (0, Instant::now());
    loop {
        let mut reached = 0;
        behind.retain(|(partition, end)| {
            let next = site.directory.owner(*partition, SystemClock.now()).map_or(0, |owner| owner.progress.next);
            reached += next;
            next < *end
        });
        let Some((partition, end)) = behind.first() else { return Ok(()) };
        if reached != far {
            (far, better) = (reached, Instant::now());
        }
        if better.elapsed() > PATIENCE {
            bail!("{partition} does not fold what stands in its log up to {end}: is `waypost serve --role {role}` running?");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn fresh_id() -> [u8; 16] {
    let mut id = [0; 16];
    let (high, low) = id.split_at_mut(8);
    high.copy_from_slice(&OsEntropy.next().to_be_bytes());
    low.copy_from_slice(&OsEntropy.next().to_be_bytes());
    id
}
