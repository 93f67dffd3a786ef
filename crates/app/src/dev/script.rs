//! Plays a story: virtual time moves to the next call or timer only when everything under way has been folded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use axum::{body::Body, http::Request};
use base64::Engine as _;
use waypost_types::{Span, Timestamp};

use super::{
    page,
    reference::{self, Expected},
    shop::{self, Move, Scene, Shopper, Story, Voice},
    tale::{Counts, Tale},
    world::{Settings, World},
};
use crate::{cli::Dev, screen};

/// The story begins on a Friday in spring; clocks change two nights later.
const START: Timestamp = Timestamp::from_millis(1_774_594_800_000);
/// Shoppers act for some four days; then the last timers run out.
const LENGTH: Span = Span::from_days(12);

/// Plays the sample shop and judges it.
pub(crate) fn play(args: &Dev) -> anyhow::Result<ExitCode> {
    let began = tokio::time::Instant::now();
    let story = shop::story(args.seed, START, args.shoppers);
    let end = START.plus(LENGTH);
    let mail = args.mail.join(format!("shop-{}", args.seed));
    if mail.exists() {
        fs::remove_dir_all(&mail).with_context(|| format!("cannot empty {}", mail.display()))?;
    }
    let listener = std::net::TcpListener::bind(&args.listen).or_else(|_| std::net::TcpListener::bind("127.0.0.1:0"))?;
    listener.set_nonblocking(true)?;
    let public_url = format!("http://{}", listener.local_addr()?);
    let settings = Settings { seed: args.seed, start: START, mail: &mail, public_url: public_url.clone() };
    let mut world = World::new(&settings)?;
    world.define(&args.journeys)?;
    let page = page::router(world.mail.clone());
    world.runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, page).await
    });
    screen(
        &format!(
            "waypost dev: a sample shop, {} shoppers, seed {}, {} of virtual time; in memory, nothing is kept but the mail.\n\
             caught mail: {public_url}/mail while this runs, {}/index.html after\n",
            args.shoppers,
            args.seed,
            LENGTH,
            mail.display()
        ),
        false,
    );

    let mut tale = Tale::new(&story);
    let mut counts = Counts::default();
    let mut stage = Stage {
        story: &story,
        world: &mut world,
        tale: &mut tale,
        counts: &mut counts,
        reactions: BTreeMap::new(),
        mails: 0,
        left: BTreeSet::new(),
        ids: BTreeSet::new(),
        began,
    };
    for scene in &story.scenes {
        stage.until(scene.at)?;
        stage.act(scene)?;
    }
    stage.until(end)?;
    drop(stage);

    let sent: Expected = world.mail.since(0).iter().filter_map(|m| Some((m.to.clone(), template_of(&m.subject)?, m.at))).collect();
    let total = world.mail.since(0).len();
    let expected = reference::expect(&story, end);
    tale.summary(&world, &counts, began.elapsed());
    Ok(judge(&story.shoppers, &sent, total, &expected, &mail))
}

struct Stage<'a> {
    story: &'a Story,
    world: &'a mut World,
    tale: &'a mut Tale,
    counts: &'a mut Counts,
    /// Unsubscribes to come: instant → (shopper, path of the link).
    reactions: BTreeMap<Timestamp, Vec<(usize, String)>>,
    mails: usize,
    left: BTreeSet<usize>,
    ids: BTreeSet<String>,
    began: tokio::time::Instant,
}

// === impl Stage ===

impl Stage<'_> {
    /// Lets time pass up to `instant`, timer by timer.
    fn until(&mut self, instant: Timestamp) -> anyhow::Result<()> {
        loop {
            let timer = self.world.pipeline.next_timer().filter(|t| *t < instant);
            let reaction = self.reactions.keys().next().copied().filter(|t| *t < instant);
            match (timer, reaction) {
                (_, Some(at)) if timer.is_none_or(|t| at <= t) => {
                    self.pass(at)?;
                    for (shopper, path) in self.reactions.remove(&at).unwrap_or_default() {
                        self.unsubscribe(shopper, &path)?;
                    }
                }
                (Some(at), _) => {
                    let before = self.world.pipeline.now();
                    self.pass(at.max(before))?;
                    // A wake-up that was early, or waits for its upstream: go on to the next thing.
                    if self.world.pipeline.next_timer() == Some(at) && self.world.pipeline.now() == before {
                        let wake = self.world.pipeline.next_wake().filter(|w| *w > before && *w < instant);
                        let Some(wake) = wake else { break };
                        self.pass(wake)?;
                    }
                }
                (None, _) => break,
            }
        }
        self.pass(instant)
    }

    fn pass(&mut self, instant: Timestamp) -> anyhow::Result<()> {
        self.world.pipeline.clock().advance_to(instant);
        self.after()
    }

    /// Folds what is under way, then looks at what came of it.
    fn after(&mut self) -> anyhow::Result<()> {
        self.world.settle();
        if let Some((partition, why)) = self.world.pipeline.halted().first() {
            bail!("partition {partition} halted: {why}");
        }
        for mail in self.world.mail.since(self.mails) {
            self.mails += 1;
            let Some(shopper) = self.story.shoppers.iter().position(|s| s.email == mail.to) else { continue };
            let leaves = self.story.shoppers[shopper].leaves;
            if let Some(after) =
                leaves.filter(|_| template_of(&mail.subject).is_some_and(|t| t.starts_with("cart-")) && self.left.insert(shopper))
            {
                let path = one_click(&mail.raw).context("a marketing mail without a one-click link")?;
                self.reactions.entry(mail.at.plus(after)).or_default().push((shopper, path));
            }
        }
        self.tale.watch(self.world, self.story);
        self.tale.progress(self.world, self.counts, self.began.elapsed());
        Ok(())
    }

    fn act(&mut self, scene: &Scene) -> anyhow::Result<()> {
        match &scene.what {
            Move::Call { path, body } => {
                let id = body["messageId"].as_str().unwrap_or_default().to_owned();
                if !self.ids.insert(id) {
                    self.counts.repeats += 1;
                }
                self.tale.came(scene, body);
                let (status, answer) = self.post(scene.voice, path, body.to_string())?;
                if status != 200 {
                    bail!("the door refused a good call with {status}: {}", String::from_utf8_lossy(&answer));
                }
                self.counts.accepted += 1;
            }
            Move::Bad { path, body, status } => {
                let (found, answer) = self.post(scene.voice, path, body.clone())?;
                if found != *status {
                    bail!("the door answered a bad call with {found} instead of {status}: {}", String::from_utf8_lossy(&answer));
                }
                self.counts.refused += 1;
            }
        }
        self.after()
    }

    fn post(&mut self, voice: Voice, path: &str, body: String) -> anyhow::Result<(u16, bytes::Bytes)> {
        let key = match voice {
            Voice::Browser => self.world.keys.get("web").cloned(),
            Voice::Backend => self.world.keys.get("shop-backend").cloned(),
            Voice::Stranger => Some("wk_nobody".to_owned()),
        };
        let key = key.context("journeys/shop.yaml must declare the sources `web` and `shop-backend`")?;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{key}:"));
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Basic {basic}"))
            .body(Body::from(body))?;
        self.world.call(request)
    }

    fn unsubscribe(&mut self, shopper: usize, path: &str) -> anyhow::Result<()> {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("List-Unsubscribe=One-Click"))?;
        let (status, answer) = self.world.call(request)?;
        if status != 200 {
            bail!("the unsubscribe link answered {status}: {}", String::from_utf8_lossy(&answer));
        }
        self.counts.unsubscribed += 1;
        self.tale.left(shopper, self.world.pipeline.now());
        self.after()
    }
}

/// The path of the one-click link in a message's headers.
fn one_click(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw).replace("\r\n ", "").replace("\r\n\t", "");
    let line = text.lines().find(|l| l.to_ascii_lowercase().starts_with("list-unsubscribe:"))?.to_owned();
    let url = line.split('<').nth(1)?.split('>').next()?;
    url.find("/u/").map(|at| url[at..].to_owned())
}

/// Which template a subject is of; the library's subjects differ.
fn template_of(subject: &str) -> Option<&'static str> {
    [
        ("your cart is waiting", "cart-remind"),
        ("Still thinking it over", "cart-again"),
        ("back on the shelf", "cart-last-call"),
        ("Welcome, ", "welcome"),
        ("a few things to begin with", "first-steps"),
    ]
    .into_iter()
    .find_map(|(words, template)| subject.contains(words).then_some(template))
}

/// Holds what went out against the reference.
fn judge(shoppers: &[Shopper], sent: &Expected, total: usize, expected: &Expected, mail: &std::path::Path) -> ExitCode {
    let missing: Vec<_> = expected.difference(sent).collect();
    let surplus: Vec<_> = sent.difference(expected).collect();
    let doubled = total - sent.len();
    if missing.is_empty() && surplus.is_empty() && doubled == 0 {
        screen(
            &format!(
                "\ncheck: every one of {} shoppers got exactly the messages that the reference computes ({} messages).\n\n\
                 try next:\n  {} dev\n      all of it in real time, until you stop it; prints write keys and addresses\n  \
                 cargo run -q -p waypostctl -- explain user_id:u1 cart-recovery\n      why somebody did or did not get a message, while `waypost dev` runs\n  \
                 ls {}\n      the messages that went out, as files",
                shoppers.len(),
                expected.len(),
                std::env::args().next().unwrap_or_else(|| "waypost".to_owned()),
                mail.display()
            ),
            false,
        );
        return ExitCode::SUCCESS;
    }
    let show = |title: &str, items: &[&(String, &'static str, Timestamp)]| {
        for (to, template, at) in items.iter().take(10) {
            let habit = shoppers.iter().find(|s| s.email == *to).map_or("", |s| s.habit);
            screen(&format!("  {title} {template} to {to} at {at} ({habit})"), true);
        }
    };
    screen(&format!("\ncheck FAILED: {} messages missing, {} too many, {doubled} doubled", missing.len(), surplus.len()), true);
    show("missing", &missing);
    show("surplus", &surplus);
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_click_link_is_found_in_folded_headers() {
        let raw = b"Subject: x\r\nList-Unsubscribe: <http://127.0.0.1:1/u/abc\r\n def>, <mailto:x@y.example>\r\n\r\n";
        assert_eq!(one_click(raw).as_deref(), Some("/u/abcdef"));
    }
}
