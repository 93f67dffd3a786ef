//! Stands before all services: who calls, whether they may call this, how much at once and for how long.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tokio::{sync::Semaphore, time::Instant};
use tonic::{Code, Status, body::Body, transport::server::TcpConnectInfo};
use tower::{Layer, Service};
use tracing::Instrument as _;
use waypost_runtime::ports::Clock;
use waypost_telemetry::traced;
use waypost_types::trace::Traces;

use super::{
    authority::{Authority, Presented},
    caller::{Caller, Grant, How},
    kept::{Kept, Tracing},
    role::Permission,
    table::{Need, rule},
};
use crate::{audit, status::Refusal};

/// Longest time of a call until its answer begins. A client's own deadline is kept where it is shorter.
const DEADLINE: Duration = Duration::from_mins(1);
/// Calls under way at once, of all connections together.
const AT_ONCE: usize = 256;
/// What a method that does not exist is called where calls are told.
const UNKNOWN: &str = "unknown";

/// Told of every call when its answer begins: the method, `unknown` for one that does not exist, what came of it, and how long
/// it took.
pub type Observe = Arc<dyn Fn(&'static str, Code, Duration) + Send + Sync>;

/// Finds out who calls and refuses what they may not do; cheap to clone. A tower layer.
#[derive(Clone)]
pub struct Gate {
    who: Arc<Who>,
    reflection: bool,
    deadline: Duration,
    room: Arc<Semaphore>,
    observe: Option<Observe>,
    tracing: Option<Tracing>,
}

enum Who {
    /// Anybody may do anything; the name is as the caller says.
    Anybody,
    /// Whoever is known.
    Known(Box<Authority>),
}

/// Who called, for the log.
#[derive(Default)]
struct Seen {
    by: String,
    how: &'static str,
    from: String,
}

/// A service behind the gate.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    gate: Gate,
    inner: S,
}

// === impl Seen ===

impl Seen {
    /// Whether it is somebody; what needs no caller, a probe, is nobody's.
    fn is_known(&self) -> bool {
        !self.how.is_empty()
    }
}

// === impl Gate ===

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = matches!(*self.who, Who::Anybody);
        f.debug_struct("Gate").field("open", &open).field("reflection", &self.reflection).finish_non_exhaustive()
    }
}

impl Gate {
    /// Everybody may do everything: for a process that nobody else reaches.
    pub fn open() -> Self {
        Self::of(Who::Anybody)
    }

    /// Only whoever this authority knows.
    pub fn new(authority: Authority) -> Self {
        Self::of(Who::Known(Box::new(authority)))
    }

    fn of(who: Who) -> Self {
        let room = Arc::new(Semaphore::new(AT_ONCE));
        Self { who: Arc::new(who), reflection: true, deadline: DEADLINE, room, observe: None, tracing: None }
    }

    /// Whether the API describes itself.
    #[must_use]
    pub fn with_reflection(self, reflection: bool) -> Self {
        Self { reflection, ..self }
    }

    /// Tells every call.
    #[must_use]
    pub fn with_observer(self, observe: Observe) -> Self {
        Self { observe: Some(observe), ..self }
    }

    /// Tells of calls whose trace is kept, and their log lines say of which trace they are.
    #[must_use]
    pub fn with_traces(self, traces: Arc<dyn Traces>, clock: Arc<dyn Clock>) -> Self {
        Self { tracing: Some(Tracing { traces, clock }), ..self }
    }

    /// With other limits, for tests.
    #[must_use]
    pub fn with_limits(self, deadline: Duration, at_once: usize) -> Self {
        Self { deadline, room: Arc::new(Semaphore::new(at_once)), ..self }
    }

    pub(crate) fn reflects(&self) -> bool {
        self.reflection
    }

    /// Whether the call may go on, and as whom. Authorises before anything else is looked at.
    async fn pass<B>(&self, need: Option<Need>, request: &mut Request<B>, seen: &mut Seen) -> Result<(), Refusal> {
        let from = peer(request);
        seen.from = from.map_or_else(String::new, |address| address.to_string());
        let presented = presented(request);
        // Nothing behind the gate needs the secret.
        request.headers_mut().remove(AUTHORIZATION);
        if need == Some(Need::Nothing) {
            return Ok(());
        }
        if need == Some(Need::Described) && from.is_some_and(|address| address.ip().is_loopback()) {
            return Ok(());
        }
        let caller = match &*self.who {
            Who::Anybody => Caller::new(audit::said(request.headers()), How::Open, vec![Grant::all()]),
            Who::Known(authority) => authority.caller(&presented).await?,
        };
        (seen.by, seen.how) = (caller.name().to_owned(), caller.how().as_str());
        let caller = caller.at(seen.from.clone());
        let caller = match need {
            Some(Need::Permission(permission)) => caller.narrowed(permission).ok_or_else(|| lacking(permission))?,
            Some(Need::Nothing | Need::Described | Need::Known) => caller,
            None => return Err(Refusal::Denied("there is no such method, so nobody may call it".to_owned())),
        };
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// Tells what came of a call.
    fn tell(&self, method: &'static str, code: Code, took: Duration) {
        if let Some(observe) = &self.observe {
            observe(method, code, took);
        }
    }
}

fn lacking(permission: Permission) -> Refusal {
    Refusal::Denied(format!("this needs the permission {permission}, which no role of the caller holds (docs/access.md)"))
}

fn peer<B>(request: &Request<B>) -> Option<SocketAddr> {
    let plain = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    #[cfg(feature = "tls")]
    let plain = plain.or_else(|| tls(request).and_then(|info| info.get_ref().remote_addr()));
    plain
}

#[cfg(feature = "tls")]
fn tls<B>(request: &Request<B>) -> Option<&tonic::transport::server::TlsConnectInfo<TcpConnectInfo>> {
    request.extensions().get()
}

fn presented<B>(request: &Request<B>) -> Presented {
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    let authorization = match (headers.next(), headers.next()) {
        (None, _) => None,
        (Some(one), None) => Some(one.to_str().unwrap_or_default().to_owned()),
        (Some(_), Some(_)) => Some(String::new()),
    };
    #[cfg(feature = "tls")]
    let certificate = {
        let chain = tls(request).and_then(tonic::transport::server::TlsConnectInfo::peer_certs);
        chain.and_then(|chain| chain.first().map(super::certificate::name))
    };
    #[cfg(not(feature = "tls"))]
    let certificate = None;
    Presented { authorization, certificate }
}

/// What came of a call, as far as its head says: an answer that begins is good so far.
fn code(headers: &HeaderMap) -> Code {
    Status::from_header_map(headers).map_or(Code::Ok, |status| status.code())
}

impl<S> Layer<S> for Gate {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { gate: self.clone(), inner }
    }
}

// === impl Guarded ===

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was polled is ready; its clone need not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.gate.clone();
        Box::pin(async move {
            let (began, mut seen, mut kept) = (Instant::now(), Seen::default(), None);
            let (method, need) = rule(request.uri().path()).unzip();
            let method = method.unwrap_or(UNKNOWN);
            let room = if need == Some(Need::Nothing) { Ok(None) } else { gate.room.clone().try_acquire_owned().map(Some) };
            let answer = match room {
                Err(_) => Err(Refusal::Exhausted("too many calls at once; try again in a moment")),
                Ok(room) => {
                    let passed = gate.pass(need, &mut request, &mut seen).await;
                    kept = gate.tracing.as_ref().filter(|_| seen.is_known()).and_then(|tracing| tracing.begin(request.headers()));
                    let answer = if let Err(refusal) = passed {
                        Err(refusal)
                    } else {
                        let answering = inner.call(request).instrument(traced(kept.as_ref().map(Kept::place)));
                        tokio::time::timeout(gate.deadline, answering).await.map_err(|_| Refusal::Deadline)
                    };
                    drop(room);
                    answer
                }
            };
            let answer = answer.unwrap_or_else(|refusal| Ok(Status::from(refusal).into_http()))?;
            let code = code(answer.headers());
            if matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
                let refused = || tracing::info!(method, ?code, by = seen.by, how = seen.how, from = seen.from, "refused");
                traced(kept.as_ref().map(Kept::place)).in_scope(refused);
            }
            gate.tell(method, code, began.elapsed());
            if let Some(kept) = kept {
                kept.end(method, code);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> Gate {
        Gate::new(Authority::open(super::super::AuthoritySettings::default()).unwrap())
    }

    async fn pass(gate: &Gate, need: Option<Need>, from: &str, waypost_as: &str) -> Result<Option<Caller>, Refusal> {
        let mut request = Request::new(());
        request.headers_mut().insert("waypost-as", waypost_as.parse().unwrap());
        request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(from.parse().unwrap()) });
        gate.pass(need, &mut request, &mut Seen::default()).await.map(|()| request.extensions_mut().remove())
    }

    #[tokio::test]
    async fn the_api_is_described_to_this_machine_and_to_whoever_is_known() {
        let described = Some(Need::Described);
        assert!(pass(&closed(), described, "127.0.0.1:9", "x").await.is_ok());
        assert!(pass(&closed(), described, "[::1]:9", "x").await.is_ok());
        let elsewhere = pass(&closed(), described, "10.0.0.7:9", "x").await;
        assert!(matches!(elsewhere, Err(Refusal::Unauthenticated(_))));
        assert!(pass(&closed(), Some(Need::Known), "127.0.0.1:9", "x").await.is_err(), "anything else asks who calls, here too");
        assert!(pass(&closed(), Some(Need::Nothing), "10.0.0.7:9", "x").await.is_ok());
    }

    #[tokio::test]
    async fn an_open_gate_knows_callers_by_what_they_say() {
        let caller = pass(&Gate::open(), Some(Need::Known), "127.0.0.1:9", "ana").await.unwrap().unwrap();
        assert_eq!((caller.name(), caller.how(), caller.from()), ("ana", How::Open, "127.0.0.1:9"));
        assert!(pass(&Gate::open(), None, "127.0.0.1:9", "ana").await.is_err(), "there is no such method");
    }

    #[tokio::test]
    async fn the_secret_goes_no_further() {
        let mut request = Request::new(());
        request.headers_mut().insert(AUTHORIZATION, "Bearer secret".parse().unwrap());
        Gate::open().pass(Some(Need::Known), &mut request, &mut Seen::default()).await.unwrap();
        assert!(request.headers().is_empty());
    }
}
