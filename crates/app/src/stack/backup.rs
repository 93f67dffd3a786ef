//! `waypost backup` and `waypost restore`: the state of partitions as files, beside running workers.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use waypost_control::{Act, Audit, Line};
use waypost_runtime::{
    backup::Backup,
    host::SystemClock,
    install::{self, InstallRecord},
    ports::{Clock as _, Log},
    upkeep::{Upkeep, UpkeepReply},
};
use waypost_types::{PartitionId, Role, Span};

use super::{block_on, log, series, store};
use crate::{
    cli::{self, Which},
    config::Config,
    screen,
};

/// Ending of a backup's file.
pub(super) const ENDING: &str = "wpbackup";
/// Ending of one that is being written, or whose writer was killed.
pub(super) const UNFINISHED: &str = "unfinished";
/// Who has a partition frozen while it is restored. A restore that was cut short is completed by the next one.
const OPERATION: &str = "restore";

// === impl Which ===

impl Which {
    /// The partitions of `record` that it names.
    pub(super) fn of(&self, record: &InstallRecord) -> anyhow::Result<Vec<PartitionId>> {
        if let Some(index) = self.partition {
            ensure!(index < record.partitions, "--partition {index}: partitions are 0 to {}", record.partitions - 1);
        }
        if let Some(role) = self.role {
            ensure!(
                Role::KEYED.contains(&role),
                "--role {role}: it has no partitions; those that have are identity segmenter orchestrator sender"
            );
        }
        let roles = Role::KEYED.into_iter().filter(|role| self.role.is_none_or(|wanted| wanted == *role));
        let indices: Vec<u32> = self.partition.map_or_else(|| (0..record.partitions).collect(), |index| vec![index]);
        Ok(roles.flat_map(|role| indices.iter().map(move |index| PartitionId { role, index: *index })).collect())
    }
}

/// `waypost backup`.
pub(crate) fn backup(config: &Config, args: &cli::Backup) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, store) = (log(config)?, store(config)?);
        let record = install::load_install(&*log, &config.install.prefix).await?;
        let partitions = args.which.of(&record)?;
        let now = SystemClock.now();
        let out = match (&args.out, &args.under) {
            (Some(out), _) => out.clone(),
            (None, Some(under)) => under.join(series::folder(now)),
            (None, None) => bail!("say where to: --out or --under"),
        };
        fs::create_dir_all(&out).with_context(|| format!("the folder {}", out.display()))?;
        for partition in &partitions {
            let path = file_of(&out, *partition);
            ensure!(!path.exists(), "{} is there already; a backup never replaces another one: name a new folder", path.display());
        }
        for (number, partition) in partitions.iter().enumerate() {
            let snapshot = store.snapshot(*partition).await.with_context(|| format!("reading {partition}"))?;
            let Some(snapshot) = snapshot else {
                bail!("{partition} has no state in Redis: there is nothing to back up; `waypost doctor` says more")
            };
            ensure!(snapshot.install == record.install(), "{partition} is of another installation; `waypost doctor` says more");
            if let Some(why) = snapshot.lost() {
                bail!("{partition} is not whole in Redis ({why}): restore an older backup instead");
            }
            let said = format!("off {}, {} entities, {} timers", snapshot.off, snapshot.entities.len(), snapshot.timers.len());
            let bytes = Backup { partition: *partition, taken: SystemClock.now(), snapshot }.encode();
            let path = file_of(&out, *partition);
            write_whole(&path, &bytes).with_context(|| format!("writing {}", path.display()))?;
            screen(&format!("{}/{} {partition}: {said}, {} kB", number + 1, partitions.len(), bytes.len().div_ceil(1024)), false);
        }
        screen(&format!("{} partitions backed up to {}", partitions.len(), out.display()), false);
        if let (Some(under), Some(days)) = (&args.under, args.keep_days) {
            let thinned = series::thin(under, now.minus(Span::from_secs(days * 86_400)))?;
            for gone in thinned.gone {
                screen(&format!("removed {}", gone.display()), false);
            }
            for (kept, other) in thinned.kept {
                screen(&format!("kept {}: {} is in it, which is no backup; remove it by hand", kept.display(), other.display()), false);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `waypost restore`.
pub(crate) fn restore(config: &Config, args: &cli::Restore) -> anyhow::Result<ExitCode> {
    block_on(async {
        let (log, store) = (log(config)?, store(config)?);
        let record = install::load_install(&*log, &config.install.prefix).await?;
        let chosen = choose(&args.from, &args.which.of(&record)?)?;
        // All of them are judged before the first is touched.
        for (path, backup) in &chosen {
            let refusal = judge(&*log, &config.install.prefix, &record, backup).await?;
            if let Some(why) = refusal {
                bail!("{} cannot be restored: {why}", path.display());
            }
        }
        if args.dry_run {
            for (_, backup) in &chosen {
                screen(&format!("would restore {}", told(&store, backup).await?), false);
            }
            screen(&format!("{} partitions would be restored; nothing was changed", chosen.len()), false);
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(args.yes, "this replaces the state of {} partitions: say --yes, or --dry-run to see what it would do", chosen.len());
        let audit = Audit::new(Arc::clone(&log), Arc::new(SystemClock), &config.install.prefix);
        let by = cli::who(args.who.as_deref());
        for (number, (_, backup)) in chosen.iter().enumerate() {
            let line = Line::new(&by, Act::Restore, format!("partitions/{}", backup.partition));
            audit.write(line.note(format!("to offset {}, taken {}", backup.snapshot.off, backup.taken))).await?;
            let said = told(&store, backup).await?;
            let reply = store.replace(backup.partition, OPERATION, &backup.snapshot).await;
            match reply.with_context(|| format!("{} is half restored and stays frozen: run the same command again", backup.partition))? {
                UpkeepReply::Ok => screen(&format!("{}/{} restored {said}", number + 1, chosen.len()), false),
                UpkeepReply::Held(by) => bail!("{} is frozen by `{by}`: let that operation end first", backup.partition),
            }
        }
        screen(&format!("{} partitions restored; their owners fold again from there", chosen.len()), false);
        Ok(ExitCode::SUCCESS)
    })
}

/// The backup of one partition, from a file or from a folder of them.
pub(super) fn load(from: &Path, partition: PartitionId) -> anyhow::Result<Backup> {
    Ok(choose(from, &[partition])?.remove(0).1)
}

/// Why a backup cannot be put in place here, if it cannot.
async fn judge(log: &dyn Log, prefix: &str, record: &InstallRecord, backup: &Backup) -> anyhow::Result<Option<String>> {
    let partition = backup.partition;
    if partition.index >= record.partitions {
        return Ok(Some(format!("this installation has no {partition}")));
    }
    let topic = format!("{prefix}{}", partition.role.inbox().unwrap_or_default());
    let watermarks = log.watermarks(&topic, partition.index).await.with_context(|| format!("the log of {partition}"))?;
    let lost = backup.snapshot.lost().map(|why| format!("it is not whole ({why}): take another backup"));
    Ok(backup.refusal(partition, &record.install(), watermarks).or(lost))
}

/// From where to where a restore goes.
async fn told(store: &dyn Upkeep, backup: &Backup) -> anyhow::Result<String> {
    let there = store.head(backup.partition).await.with_context(|| format!("reading {}", backup.partition))?;
    let there = there.map_or_else(|| "no state".to_owned(), |head| format!("off {}", head.off));
    let snapshot = &backup.snapshot;
    Ok(format!("{}: from {there} to off {}, {} entities, taken {}", backup.partition, snapshot.off, snapshot.entities.len(), backup.taken))
}

/// Reads the backups of these partitions that `from`, a file or a folder, holds.
fn choose(from: &Path, partitions: &[PartitionId]) -> anyhow::Result<Vec<(PathBuf, Backup)>> {
    let paths: Vec<PathBuf> = if from.is_dir() {
        partitions.iter().map(|partition| file_of(from, *partition)).filter(|path| path.exists()).collect()
    } else {
        vec![from.to_owned()]
    };
    ensure!(!paths.is_empty(), "--from {}: no backup of the partitions asked for is there", from.display());
    let mut found = Vec::new();
    for path in paths {
        let bytes = Bytes::from(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        let backup = Backup::decode(&bytes).with_context(|| format!("{}", path.display()))?;
        ensure!(partitions.contains(&backup.partition), "{} is of {}, which was not asked for", path.display(), backup.partition);
        found.push((path, backup));
    }
    Ok(found)
}

fn file_of(folder: &Path, partition: PartitionId) -> PathBuf {
    folder.join(format!("{}-{}.{ENDING}", partition.role, partition.index))
}

/// The file is there whole or not at all, also after a loss of power; it holds people's data, so only its owner reads it.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use waypost_runtime::{ports::Install, upkeep::Snapshot};
    use waypost_types::Timestamp;

    use super::*;

    const P: PartitionId = PartitionId { role: Role::Sender, index: 2 };

    fn backup() -> Backup {
        let install = Install { id: "00".repeat(16), layout: 1, format: 1 };
        Backup { partition: P, taken: Timestamp::from_millis(1), snapshot: Snapshot::empty(install) }
    }

    #[test]
    fn a_folder_gives_what_it_has_of_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        write_whole(&file_of(folder.path(), P), &backup().encode()).unwrap();
        let other = PartitionId { index: 3, ..P };
        let found = choose(folder.path(), &[other, P]).unwrap();
        assert_eq!(found.into_iter().map(|(_, b)| b).collect::<Vec<_>>(), [backup()]);
        assert!(choose(folder.path(), &[other]).unwrap_err().to_string().contains("no backup"));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["sender-2.wpbackup"], "nothing unfinished is left");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_of(folder.path(), P);
        let mut bytes = backup().encode();
        bytes[40] ^= 1;
        write_whole(&path, &bytes).unwrap();
        let error = format!("{:#}", choose(&path, &[P]).unwrap_err());
        assert!(error.contains("sender-2.wpbackup") && error.contains("damaged"), "{error}");
    }
}
