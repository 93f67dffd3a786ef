//! What scripts and people are told about how a command ended.

use tonic::Code;

/// For `--help`, and the page about it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes, as kubectl's:
  0  done; `diff`: nothing differs
  1  refused or failed, nothing was changed unless it says so; `diff`: something differs
  2  the command line is not understood; `diff`: failed
  130, 143  ended by ^C or SIGTERM";

/// What to do about an answer of that kind; nothing where its own words say it.
pub(crate) fn for_code(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Unauthenticated => {
            "say who calls: --token-file, WAYPOST_TOKEN, --cert-file, or a context that has one (`waypostctl context list`)"
        }
        Code::PermissionDenied => "`waypostctl whoami` shows what you may do, and in which workspaces",
        Code::NotFound => {
            "`waypostctl get` lists what there is; -w names another workspace, and `waypostctl workspace list` shows which there are"
        }
        Code::Aborted => "somebody else changed it meanwhile: look at it again, then repeat the command",
        Code::Unavailable => "something that the server needs is away for now: repeat the command in a moment",
        Code::DeadlineExceeded => "it took too long: repeat the command, if it may be repeated",
        Code::Unimplemented => "the server does not know this yet: it is older than this waypostctl",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss => return None,
    })
}
