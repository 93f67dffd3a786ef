//! One table from what went wrong to gRPC codes (CONVENTIONS §4.1): `ErrorInfo` always, details where there are any.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt as _};
use waypost_engine::{apply::Excess, manifest::Problem};
use waypost_runtime::{door::DoorError, ports::LogError};

use crate::{changes::ChangeError, lookup::LookupError};

const DOMAIN: &str = "waypost.dev";

/// An error of the API.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The request itself is wrong: reason code, what and what to do.
    Invalid(&'static str, String),
    /// The manifests are wrong.
    Problems(Vec<Problem>),
    /// What reads it would break.
    InUse(Vec<Problem>),
    /// No such thing.
    NotFound(String),
    /// There is one already.
    Exists(String),
    /// An etag that is not the current one.
    Etag,
    /// Something needed is away.
    Unavailable(String),
    /// Somebody else was first.
    Aborted(String),
    /// This server is not one that can: reason code, and why.
    Precondition(&'static str, String),
    /// Nobody knows who calls.
    Unauthenticated(String),
    /// Who calls may not do this.
    Denied(String),
    /// Too much at once.
    Exhausted(&'static str),
    /// More than a workspace may have: which one, and of what.
    Quota(String, Vec<Excess>),
    /// It took too long.
    Deadline,
    /// Our bug.
    Internal,
}

// === impl Refusal ===

impl Refusal {
    /// For everything outside of the caller's workspaces: the same whether it exists or not.
    pub(crate) fn foreign() -> Self {
        Self::Denied("this is in none of the workspaces in which the caller may do this".to_owned())
    }

    /// Code and reason, as `ErrorInfo` has it.
    fn code(&self) -> (Code, &'static str) {
        match self {
            Self::Invalid(reason, _) => (Code::InvalidArgument, reason),
            Self::Problems(problems) => (Code::InvalidArgument, problems.first().map_or("INVALID_MANIFEST", |p| p.code)),
            Self::InUse(_) => (Code::FailedPrecondition, "IN_USE"),
            Self::NotFound(_) => (Code::NotFound, "NOT_FOUND"),
            Self::Exists(_) => (Code::AlreadyExists, "ALREADY_EXISTS"),
            Self::Etag => (Code::Aborted, "ETAG_MISMATCH"),
            Self::Unavailable(_) => (Code::Unavailable, "UNAVAILABLE"),
            Self::Aborted(_) => (Code::Aborted, "ABORTED"),
            Self::Precondition(reason, _) => (Code::FailedPrecondition, reason),
            Self::Unauthenticated(_) => (Code::Unauthenticated, "UNAUTHENTICATED"),
            Self::Denied(_) => (Code::PermissionDenied, "PERMISSION_DENIED"),
            Self::Exhausted(_) => (Code::ResourceExhausted, "TOO_MANY_CALLS"),
            Self::Quota(..) => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
            Self::Deadline => (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::Internal => (Code::Internal, "INTERNAL"),
        }
    }

    /// Why, in a word without personal data.
    pub(crate) fn reason(&self) -> &'static str {
        self.code().1
    }

    /// Whether the same may go well a little later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Aborted(_) | Self::Deadline)
    }

    /// Why, for people.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Problems(problems) => format!("{} problem(s) in the manifests; nothing was changed", problems.len()),
            Self::InUse(_) => "it is still in use; nothing was changed".to_owned(),
            Self::Invalid(_, message)
            | Self::Precondition(_, message)
            | Self::NotFound(message)
            | Self::Exists(message)
            | Self::Unavailable(message)
            | Self::Aborted(message)
            | Self::Unauthenticated(message)
            | Self::Denied(message) => message.clone(),
            Self::Exhausted(message) => (*message).to_owned(),
            Self::Quota(workspace, excess) => {
                let words: Vec<_> = excess.iter().map(over).collect();
                format!("{workspace} would have {}; nothing was changed", words.join(" and "))
            }
            Self::Etag => "the etag is not the current one: read again and retry".to_owned(),
            Self::Deadline => "this took too long and was given up; what it began may have been done".to_owned(),
            Self::Internal => "an internal error; the log of the control process has more".to_owned(),
        }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Raced => Self::Aborted(error.to_string()),
            ChangeError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<DoorError> for Refusal {
    fn from(error: DoorError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<LookupError> for Refusal {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unknown | LookupError::Forgotten(_) | LookupError::BeingForgotten(_) => Self::NotFound(error.to_string()),
            LookupError::Owners(_) => Self::Unavailable(error.to_string()),
            LookupError::Stored(_) => {
                tracing::error!(%error, "a profile was asked for");
                Self::Internal
            }
        }
    }
}

impl From<Vec<Problem>> for Refusal {
    fn from(problems: Vec<Problem>) -> Self {
        Self::Problems(problems)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let ((code, reason), message) = (refusal.code(), refusal.message());
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, std::collections::HashMap::default());
        if let Refusal::Quota(workspace, excess) = &refusal {
            let violations: Vec<_> = excess.iter().map(|one| QuotaViolation::new(workspace.clone(), over(one))).collect();
            details.set_quota_failure(violations);
        }
        if let Refusal::Problems(problems) | Refusal::InUse(problems) = refusal {
            details.set_bad_request(problems.iter().map(violation).collect::<Vec<_>>());
        }
        Self::with_error_details(code, message, details)
    }
}

/// What is too much, in words.
fn over(excess: &Excess) -> String {
    format!("{} {}, of which it may have {}", excess.count, excess.what.replace('_', " "), excess.limit)
}

fn violation(problem: &Problem) -> FieldViolation {
    let hint = problem.suggestion.as_ref().map_or_else(String::new, |s| format!(" (did you mean `{s}`?)"));
    let field = format!("{}:{}:{} {}", problem.file, problem.line, problem.column, problem.path);
    FieldViolation::new(field.trim_end(), format!("{}: {}{hint}", problem.code, problem.message))
}
