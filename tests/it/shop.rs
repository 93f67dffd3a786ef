//! An installation of its own on the shared servers: one process a role, fixture journeys in force, a mail
//! server that listens, and the words in which tests speak of it.

mod role;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{self, Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};
use waypost_tests::process::{Process, free_port};

use crate::{
    collector,
    http::{Answer, Request},
    public::{RUNTIME, Reader, Registry, Topic, Writer},
    smtp_sink::{Mail, Sink},
    stack::{self, PATIENCE, eventually, now},
};
use role::Launch;
pub(crate) use role::{Release, old_binary};

/// In the order in which they are started.
pub(crate) const ROLES: [&str; 6] = ["identity", "segmenter", "orchestrator", "sender", "control", "ingest"];

/// The installation. Dropping it kills every process of it.
pub(crate) struct Shop {
    prefix: String,
    launch: Launch,
    ingest: u16,
    pub(crate) control: u16,
    running: Mutex<BTreeMap<&'static str, Process>>,
    _registry_process: Process,
    pub(crate) registry: Registry,
    pub(crate) sink: Sink,
    pub(crate) decisions: Reader,
    pub(crate) messages: Reader,
    pub(crate) dead: Reader,
    /// Write key of the source `shop-backend`, which may grant consent.
    pub(crate) backend: String,
    /// Write key of the source `web`, a browser.
    pub(crate) web: String,
}

/// When something was said at the door, by the clock that the door uses too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// Not later than the event's own time.
    pub(crate) first_tried: i64,
    /// Not earlier than the acknowledgement.
    pub(crate) acknowledged: i64,
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

// === impl Shop ===

impl Shop {
    /// Opens a shop and waits until it works.
    pub(crate) fn open(name: &str) -> Self {
        Self::open_with(name, Vec::new())
    }

    /// What stands before every topic and key of the shop of this name.
    pub(crate) fn prefix_of(name: &str) -> String {
        format!("it-{}-{name}.", process::id())
    }

    /// Opens a shop that the release before set up and runs.
    pub(crate) fn open_before(name: &str) -> Self {
        Self::open_as(Release::Before, name, Vec::new())
    }

    /// The same with further variables, which win.
    pub(crate) fn open_with(name: &str, further: Vec<(String, String)>) -> Self {
        Self::open_as(Release::This, name, further)
    }

    fn open_as(release: Release, name: &str, further: Vec<(String, String)>) -> Self {
        let prefix = Self::prefix_of(name);
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&prefix);
        fs::create_dir_all(&logs).unwrap();
        let sink = Sink::open();
        let [ingest, control, registry] = [(); 3].map(|()| free_port());
        let set = |name: &str, value: &dyn ToString| (format!("WAYPOST_{name}"), value.to_string());
        let mut environment = vec![
            set("INSTALL_PREFIX", &prefix),
            set("INSTALL_PARTITIONS", &4),
            set("KAFKA_BROKERS", &stack::variable("WAYPOST_TEST_KAFKA")),
            set("REDIS_URL", &stack::variable("WAYPOST_TEST_REDIS")),
            set("REGISTRY_URL", &format!("http://127.0.0.1:{registry}")),
            set("INGEST_LISTEN", &format!("127.0.0.1:{ingest}")),
            set("INGEST_PUBLIC_URL", &format!("http://127.0.0.1:{ingest}")),
            set("CONTROL_LISTEN", &format!("127.0.0.1:{control}")),
            set("OWNER_LISTEN", &"127.0.0.1:0"),
            set("ADMIN_LISTEN", &"127.0.0.1:0"),
            set("MAIL_SMTP_HOST", &"127.0.0.1"),
            set("MAIL_SMTP_PORT", &sink.port),
            set("MAIL_SMTP_TLS", &"none"),
            set("MAIL_CATCHER_DIR", &logs.join("mail").display()),
            set("TELEMETRY_OTLP_ENDPOINT", &collector::address()),
            // only what a caller asks for
            set("TELEMETRY_SAMPLE", &0),
            set("TELEMETRY_OTLP_METRICS_S", &1),
            set("LOG_FILTER", &std::env::var("WAYPOST_LOG_FILTER").unwrap_or_else(|_| "info".to_owned())),
        ];
        environment.extend(further);
        let launch = Launch { environment, logs };
        let registry_process = launch.start("registry", &["registry", "--listen", &format!("127.0.0.1:{registry}")]);
        eventually("the registry's port", || TcpStream::connect(("127.0.0.1", registry)).ok());
        let init = launch.command_of(release, &["init"]).output().unwrap();
        assert!(init.status.success(), "waypost init: {}", said(&init));
        let doctor = launch.command_of(release, &["doctor"]).output().unwrap();
        assert!(doctor.status.success(), "waypost doctor: {}", said(&doctor));
        // the brokers of tests have no authorizer, and of rules the client cannot ask
        assert!(["authorizer.class.name: found none", "not asked: "].iter().all(|says| said(&doctor).contains(says)), "{}", said(&doctor));
        let reader = |topic: &str| Reader::of(&format!("{prefix}{topic}"));
        let mut shop = Self {
            ingest,
            control,
            running: Mutex::default(),
            _registry_process: registry_process,
            registry: Registry::at(registry, &prefix),
            sink,
            decisions: reader("waypost.decisions.v1"),
            messages: reader("waypost.messages.v1"),
            dead: reader("wp1.dead"),
            backend: String::new(),
            web: String::new(),
            launch,
            prefix,
        };
        for role in ROLES {
            shop.start_of(release, role, role);
        }
        shop.wait_for_control();
        shop.tell(&["apply", "-f", &fixtures()]);
        for journey in ["cart-recovery", "greetings", "lookbook"] {
            shop.tell(&["publish", journey]);
        }
        shop.backend = shop.tell(&["source", "rotate-key", "shop-backend", "--yes"]);
        shop.web = shop.tell(&["source", "rotate-key", "web", "--yes"]);
        shop.wait_for_ingest();
        shop
    }

    // ---- processes ------------------------------------------------------------------------------

    /// Starts a role that does not run.
    pub(crate) fn start(&self, role: &'static str) {
        self.start_as(role, role);
    }

    /// Starts a further process of a role under a name of its own.
    pub(crate) fn start_as(&self, name: &'static str, role: &str) {
        self.start_of(Release::This, name, role);
    }

    /// Starts a process of a release.
    pub(crate) fn start_of(&self, release: Release, name: &'static str, role: &str) {
        let process = self.launch.serve(release, name, role);
        let before = self.lock().insert(name, process);
        assert!(before.is_none(), "{name} runs already");
    }

    /// Starts a process that must end by itself; how, and what it logged.
    pub(crate) fn start_in_vain(&self, name: &'static str, role: &str) -> (ExitStatus, String) {
        let mut process = self.launch.start(name, &["serve", "--role", role]);
        let ended = eventually(&format!("the end of {name}"), || process.ended());
        (ended, self.log(name))
    }

    /// What a process has logged so far.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.launch.logs.join(format!("{name}.log"))).unwrap()
    }

    /// Where a process says how it is.
    pub(crate) fn admin_address(&self, name: &str) -> String {
        self.until(&format!("{name} to say where it is asked"), || {
            let log = self.log(name);
            let (_, told) = log.rsplit_once("admin open")?;
            let port: String = told.split_once("127.0.0.1:")?.1.chars().take_while(char::is_ascii_digit).collect();
            Some(format!("127.0.0.1:{port}"))
        })
    }

    /// Asks a process how it is.
    pub(crate) fn admin(&self, name: &str, path: &str) -> Answer {
        let address = self.admin_address(name);
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap();
        Request::get(path).send(port).unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, role: &str) {
        let process = self.lock().remove(role);
        process.expect("it runs").kill();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&self, role: &str) -> ExitStatus {
        let process = self.lock().remove(role).expect("it runs");
        RUNTIME.block_on(process.terminate(PATIENCE)).unwrap_or_else(|| panic!("{role} does not end after SIGTERM"))
    }

    /// Starts a command of `waypost`; what it says goes to the log of this name.
    pub(crate) fn begin(&self, name: &str, arguments: &[&str]) -> Process {
        self.launch.start(name, arguments)
    }

    /// Starts a command of `waypost` with further settings.
    pub(crate) fn begin_with(&self, name: &str, arguments: &[&str], settings: &[(&str, String)]) -> Process {
        let mut command = self.launch.command(arguments);
        command.envs(settings.iter().map(|(name, value)| (*name, value)));
        Process::start(&mut command, &self.launch.logs.join(format!("{name}.log"))).unwrap()
    }

    /// Runs a command of `waypost` to its end, in the folder of the logs.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.launch.command(arguments).output().unwrap()
    }

    /// Runs a command of a release to its end.
    pub(crate) fn run_of(&self, release: Release, arguments: &[&str]) -> Output {
        self.launch.command_of(release, arguments).output().unwrap()
    }

    /// Until the API answers.
    pub(crate) fn wait_for_control(&self) {
        self.until("the control API", || self.ask(&["get"]).status.success().then_some(()));
    }

    /// Until the door knows the write keys.
    pub(crate) fn wait_for_ingest(&self) {
        for key in [&self.backend, &self.web] {
            self.until("the door to know its keys", || {
                let answer = Request::post("/v1/track", "no JSON").key(key).send(self.ingest).ok()?;
                (answer.status == 400).then_some(())
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Process>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Like [`eventually`], but fails at once, with its last words, where a role ended by itself.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            for (role, process) in self.lock().iter_mut() {
                assert!(process.ended().is_none(), "{role} ended by itself:\n{}", role::tail(&self.launch.logs, role));
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}logs are in {}; waited {} s for {what}",
                self.last_words(),
                self.launch.logs.display(),
                PATIENCE.as_secs()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The last lines that each role logged: where the tests run for somebody else, nobody can look at the files. (And of a long
    /// message such a place may show the end alone.)
    fn last_words(&self) -> String {
        self.lock().keys().fold(String::new(), |words, role| words + &format!("--- {role}\n{}\n", role::tail(&self.launch.logs, role)))
    }

    // ---- waypostctl -----------------------------------------------------------------------------

    /// Runs `waypostctl`.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        self.ctl(arguments).output().unwrap()
    }

    /// Runs `waypostctl` with these variables.
    pub(crate) fn ask_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.ctl(arguments).envs(variables.iter().copied()).output().unwrap()
    }

    /// Starts `waypostctl`; what it says is kept for whoever waits for it.
    pub(crate) fn ask_on(&self, arguments: &[&str]) -> Child {
        self.ctl(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts `waypostctl` where `terminal` opens a terminal.
    pub(crate) fn on_terminal(&self, arguments: &[&str], terminal: &dyn Fn() -> fs::File) -> Child {
        self.ctl(arguments).stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap()
    }

    fn ctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(stack::variable("WAYPOSTCTL_BIN"));
        command.env("WAYPOST_SERVER", format!("http://127.0.0.1:{}", self.control)).args(arguments);
        // of a shop that asks who calls
        command.envs(self.launch.environment.iter().filter(|(name, _)| name == "WAYPOST_TOKEN").cloned());
        command
    }

    /// Runs `waypostctl`, which must succeed; its standard output.
    pub(crate) fn tell(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "waypostctl {arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs `waypostctl -o json`, which must succeed.
    pub(crate) fn tell_json(&self, arguments: &[&str]) -> Json {
        let text = self.tell(&[&["-o", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    // ---- the door -------------------------------------------------------------------------------

    /// A request to the door, once.
    pub(crate) fn request(&self, request: &Request<'_>) -> Answer {
        request.send(self.ingest).unwrap()
    }

    /// Says something with the backend's key, again and again under one message id until it is acknowledged,
    /// as a client would.
    pub(crate) fn say(&self, path: &str, call: Json) -> Said {
        self.say_with(&self.backend, path, call)
    }

    /// The same with another write key.
    pub(crate) fn say_with(&self, key: &str, path: &str, mut call: Json) -> Said {
        call["messageId"] = json!(format!("m{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let request = call.to_string();
        let first_tried = now();
        self.until("the door's acknowledgement", || {
            let answer = Request::post(path, request.clone()).key(key).send(self.ingest).ok()?;
            assert!(matches!(answer.status, 200 | 401 | 429 | 503), "{path}: {} {}", answer.status, answer.body);
            // 401: a door that has just been started has not read its keys yet
            (answer.status == 200).then_some(())
        });
        Said { first_tried, acknowledged: now() }
    }

    pub(crate) fn track(&self, who: &Json, event: &str, properties: Json) -> Said {
        let mut call = who.clone();
        call["event"] = json!(event);
        call["properties"] = properties;
        self.say("/v1/track", call)
    }

    /// A person with user id `name`, the address `name@mail.example`, and consent to all topics used here.
    pub(crate) fn person(&self, name: &str) -> String {
        let address = format!("{name}@mail.example");
        self.say("/v1/identify", json!({"userId": name, "traits": {"email": address, "firstName": "Ann"}}));
        self.consent(name);
        address
    }

    pub(crate) fn consent(&self, name: &str) {
        for topic in ["cart-reminders", "greetings"] {
            self.track(&json!({"userId": name}), "Subscribed", json!({"channel": "email", "topic": topic}));
        }
    }

    /// Puts a blue vase into a cart.
    pub(crate) fn touch(&self, who: &Json, cart: &str) -> Said {
        self.track(who, "Product Added", vase(cart))
    }

    pub(crate) fn order(&self, who: &Json, order: &str) -> Said {
        let products = json!([{"product_id": "p1", "price": "89.00", "quantity": 1}]);
        self.track(who, "Order Completed", json!({"order_id": order, "currency": "EUR", "total": "89.00", "products": products}))
    }

    /// Writes to `waypost.events.v1`.
    pub(crate) fn events(&self) -> Writer {
        Writer::of(&format!("{}waypost.events.v1", self.prefix))
    }

    // ---- what lies below ------------------------------------------------------------------------

    /// Before every topic and key.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The log of a role's partitions, or any other topic.
    pub(crate) fn topic(&self, name: &str) -> Topic {
        Topic::of(&format!("{}{name}", self.prefix))
    }

    /// What was done and by whom, oldest first.
    pub(crate) fn audit(&self) -> Vec<Json> {
        let lines = self.topic("wp1.audit").rows(0, 0);
        lines.iter().map(|line| serde_json::from_slice(&line.payload).unwrap()).collect()
    }

    // ---- what came of it ------------------------------------------------------------------------

    /// Waits for the mail with this subject to this address.
    pub(crate) fn mail(&self, address: &str, subject: &str) -> Mail {
        self.until(&format!("the mail `{subject}` to {address}"), || {
            self.sink.to(address).into_iter().find(|mail| mail.header("subject") == subject)
        })
    }

    /// Waits for a decision.
    pub(crate) fn decision(&self, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        self.until(what, || self.decisions.rows(&self.registry).into_iter().find(|row| wanted(row)))
    }

    /// Waits until the run of a key has ended; why.
    pub(crate) fn ended(&self, journey: &str, key: &str) -> String {
        let row = self.decision(&format!("the end of {journey} {key}"), |row| {
            row["journey"] == journey && row["key"] == key && row["what"] == "EXITED"
        });
        row["reason"].as_str().unwrap().to_owned()
    }

    /// Waits for a row of `waypost.messages.v1`.
    pub(crate) fn message(&self, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        self.until(what, || self.messages.rows(&self.registry).into_iter().find(|row| wanted(row)))
    }
}

/// A line of a cart.
pub(crate) fn vase(cart: &str) -> Json {
    json!({"cart_id": cart, "product_id": "p1", "name": "Blue vase", "price": "89.00", "currency": "EUR", "quantity": 1})
}

fn fixtures() -> String {
    stack::root().join("tests/fixtures/journeys").display().to_string()
}

/// How a command ended and what it said, for a test that fails.
pub(crate) fn said(output: &Output) -> String {
    format!("{} {}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
