//! One table from what went wrong to gRPC codes (CONVENTIONS §4.1): `ErrorInfo` always, details where there are any.

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use waypost_engine::manifest::Problem;
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
    /// No such thing.
    NotFound(String),
    /// An etag that is not the current one.
    Etag,
    /// Something needed is away.
    Unavailable(String),
    /// Somebody else was first.
    Aborted(String),
    /// Our bug.
    Internal,
}

// === impl Refusal ===

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
            LookupError::Unknown | LookupError::Forgotten(_) => Self::NotFound(error.to_string()),
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
        let (code, reason, message) = match &refusal {
            Refusal::Invalid(reason, message) => (Code::InvalidArgument, *reason, message.clone()),
            Refusal::Problems(problems) => {
                let first = problems.first().map_or("INVALID_MANIFEST", |p| p.code);
                (Code::InvalidArgument, first, format!("{} problem(s) in the manifests; nothing was changed", problems.len()))
            }
            Refusal::NotFound(message) => (Code::NotFound, "NOT_FOUND", message.clone()),
            Refusal::Etag => (Code::Aborted, "ETAG_MISMATCH", "the etag is not the current one: read again and retry".to_owned()),
            Refusal::Unavailable(message) => (Code::Unavailable, "UNAVAILABLE", message.clone()),
            Refusal::Aborted(message) => (Code::Aborted, "ABORTED", message.clone()),
            Refusal::Internal => (Code::Internal, "INTERNAL", "an internal error; the log of the control process has more".to_owned()),
        };
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, DOMAIN, std::collections::HashMap::default());
        if let Refusal::Problems(problems) = refusal {
            details.set_bad_request(problems.iter().map(violation).collect::<Vec<_>>());
        }
        Self::with_error_details(code, message, details)
    }
}

fn violation(problem: &Problem) -> FieldViolation {
    let hint = problem.suggestion.as_ref().map_or_else(String::new, |s| format!(" (did you mean `{s}`?)"));
    let field = format!("{}:{}:{} {}", problem.file, problem.line, problem.column, problem.path);
    FieldViolation::new(field.trim_end(), format!("{}: {}{hint}", problem.code, problem.message))
}
