//! Records that kill every process which folds them: proposed by one person, approved by another, or tried again.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use waypost_proto::control::{self as pb, partition_service_client::PartitionServiceClient};

use crate::{
    cli::DryRun,
    commands::{Done, Session},
    connection::Asking,
    output, progress,
};

#[derive(Debug, Subcommand)]
pub(crate) enum SkipCommand {
    /// What was proposed, and what is skipped
    List,
    /// Say that a record is to be set aside in every life; somebody else approves it
    ///
    /// Refused unless the partition stands at it and nobody has folded it: every destination is read to its end first.
    Propose {
        #[command(flatten)]
        record: SkippedRecord,
        /// Why, for whoever asks later: a line of the audit topic
        #[arg(long, value_name = "TEXT")]
        because: Option<String>,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Set aside what somebody else has proposed; it folds to a dead letter from then on
    Approve {
        #[command(flatten)]
        record: SkippedRecord,
        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Forget the deaths at the record at which a partition halted, for a newer binary or more memory; its owner notices within half a minute
    Retry {
        /// `identity/3`
        partition: String,
        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SkippedRecord {
    /// `identity/3`
    pub(crate) partition: String,
    /// Offset of its frame, as the halt names it
    #[arg(long)]
    pub(crate) offset: u64,
    /// Index of the record in the frame
    #[arg(long)]
    pub(crate) index: u32,
}

// === impl Session ===

impl Session {
    pub(crate) async fn skip(&self, what: SkipCommand) -> anyhow::Result<Done> {
        let mut client: PartitionServiceClient<Asking> = PartitionServiceClient::new(self.channel.clone());
        match what {
            SkipCommand::List => {
                let skips = client.list_skips(pb::ListSkipsRequest {}).await?.into_inner().skips;
                let head = ["PARTITION", "OFFSET", "INDEX", "PROPOSED BY", "APPROVED BY", "BECAUSE"];
                let json = json!({"skips": skips.iter().map(shown).collect::<Vec<_>>()});
                Ok(self.show(&json, || output::table(&head, skips.iter().map(row)), || skips.iter().map(|s| s.partition.clone()).collect()))
            }
            SkipCommand::Propose { record, because, dry_run } => {
                let (name, validate_only) = (full(&record.partition), dry_run.is_dry());
                let request = pb::ProposeSkipRequest {
                    name,
                    offset: record.offset,
                    index: record.index,
                    reason: because.unwrap_or_default(),
                    validate_only,
                };
                let skip = progress::during("reading every destination", client.propose_skip(request)).await?.into_inner();
                let flags = format!("{} --offset {} --index {}", short(&skip.partition), skip.offset, skip.index);
                let said = if validate_only {
                    format!("{flags} can be proposed (server dry run)")
                } else {
                    format!("proposed by {}; somebody else approves: waypostctl skip approve {flags}", skip.proposed_by)
                };
                Ok(self.one(&skip, said))
            }
            SkipCommand::Approve { record, dry_run } => {
                let (name, validate_only) = (full(&record.partition), dry_run.is_dry());
                let request = pb::ApproveSkipRequest { name, offset: record.offset, index: record.index, validate_only };
                let skip = progress::during("reading every destination", client.approve_skip(request)).await?.into_inner();
                let said = if validate_only {
                    "it can be approved (server dry run)"
                } else {
                    "skipped from now on, in every life: it folds to a dead letter"
                };
                Ok(self.one(&skip, said.to_owned()))
            }
            SkipCommand::Retry { partition, dry_run } => {
                let (name, validate_only) = (full(&partition), dry_run.is_dry());
                let answer = client.retry_partition(pb::RetryPartitionRequest { name: name.clone(), validate_only }).await?.into_inner();
                let json = json!({"partition": name, "offset": answer.offset, "deaths": answer.deaths, "isForgotten": !validate_only});
                let said = if validate_only {
                    format!("{} lives have ended at offset {} (server dry run)", answer.deaths, answer.offset)
                } else {
                    format!("folded again from offset {}: its owner notices within half a minute", answer.offset)
                };
                Ok(self.show(&json, || said, || vec![name.clone()]))
            }
        }
    }

    fn one(&self, skip: &pb::Skip, said: String) -> Done {
        self.show(&shown(skip), || said, || vec![skip.partition.clone()])
    }
}

fn full(partition: &str) -> String {
    format!("partitions/{}", short(partition))
}

fn short(partition: &str) -> &str {
    partition.strip_prefix("partitions/").unwrap_or(partition)
}

fn row(skip: &pb::Skip) -> Vec<String> {
    let place = [short(&skip.partition).to_owned(), skip.offset.to_string(), skip.index.to_string()];
    place.into_iter().chain([skip.proposed_by.clone(), skip.approved_by.clone(), skip.reason.clone()]).collect()
}

fn shown(skip: &pb::Skip) -> Value {
    json!({
        "partition": skip.partition, "offset": skip.offset, "index": skip.index, "proposedBy": skip.proposed_by,
        "approvedBy": skip.approved_by, "because": skip.reason,
    })
}
