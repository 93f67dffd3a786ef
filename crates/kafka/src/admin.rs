//! Topics: creating, describing, watermarks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    Offset as At, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataPartition,
};
use tokio::task::JoinHandle;
use tracing::{debug, warn};
use waypost_runtime::ports::{LogError, Offset, TopicSpec};
use waypost_types::Timestamp;

use crate::{
    asker::Asker,
    connection::ConnectionError,
    convert::{log_error, offset, signed, unsigned},
    grant::grant,
    settings::{Recipe, Settings},
    standing::leave,
};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often somebody hears what the client says beside its answer.
const LISTEN: Duration = Duration::from_millis(100);
/// How often a refusal is heard before it is the answer: another broker may still give a better one.
const REFUSALS: u32 = 20;
/// How often a topic that was created is looked for until every partition has a leader.
const LOOKS: usize = 100;

/// What brokers say of a partition while its leader moves.
const MOVING: [RDKafkaErrorCode; 3] =
    [RDKafkaErrorCode::NotLeaderForPartition, RDKafkaErrorCode::LeaderNotAvailable, RDKafkaErrorCode::FencedLeaderEpoch];

/// The same, or that a new partition has not been heard of.
fn is_on_its_way(code: RDKafkaErrorCode) -> bool {
    MOVING.contains(&code) || matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition)
}

/// Puts questions to the cluster, and administers it.
pub(crate) struct Admin {
    recipe: Recipe,
    clients: Mutex<Clients>,
}

/// A client for questions and one for administration.
#[derive(Clone)]
struct Clients {
    asking: Arc<BaseConsumer<Asker>>,
    administering: Arc<AdminClient<Asker>>,
}

// === impl Clients ===

impl Clients {
    fn new(recipe: &Recipe) -> Result<Self, ConnectionError> {
        let (asking, administering) = (recipe.make(Asker::new)?, recipe.make(Asker::new)?);
        Ok(Self { asking: Arc::new(asking), administering: Arc::new(administering) })
    }
}

// === impl Admin ===

impl Admin {
    pub(crate) fn new(settings: &Settings) -> Result<Self, ConnectionError> {
        let recipe = settings.client();
        let clients = Clients::new(&recipe)?;
        Ok(Self { recipe, clients: Mutex::new(clients) })
    }

    fn clients(&self) -> Clients {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those for the next question: new ones where brokers refuse what was renewed since.
    fn current(&self) -> Clients {
        let clients = self.clients();
        if !clients.asking.context().is_outdated() {
            return clients;
        }
        listen(&clients.asking);
        if clients.asking.context().refusal().is_none() {
            return clients;
        }
        self.renew(clients);
        self.clients()
    }

    /// The next question goes to new clients: one that has forgotten its brokers (`standing`) never answers again, and one that
    /// was refused goes on showing what it was made with.
    fn renew(&self, failed: Clients) {
        match Clients::new(&self.recipe) {
            Ok(new) => {
                let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
                if Arc::ptr_eq(&clients.asking, &failed.asking) {
                    *clients = new;
                }
            }
            Err(error) => warn!(%error, "no new client for questions"),
        }
        leave("questions", failed);
    }

    /// Runs a call of librdkafka's that blocks.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Asker>) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let clients = self.current();
        let asking = Arc::clone(&clients.asking);
        asking.context().begin();
        let asked = tokio::task::spawn_blocking(move || {
            if asking.context().has_tokens() {
                // it shows none before it was asked for one
                listen(&asking);
            }
            question(&asking)
        });
        let answer = answer(&clients.asking, asked).await;
        if let Err(LogError::Unavailable(_)) = &answer {
            self.renew(clients);
        }
        answer
    }

    /// Runs a call of administration.
    async fn administer<T>(&self, call: impl AsyncFnOnce(&AdminClient<Asker>) -> Result<T, KafkaError>) -> Result<T, LogError> {
        let clients = self.current();
        if clients.asking.context().has_tokens() {
            // rdkafka gives tokens to consumers and producers alone
            clients.asking.context().token().and_then(|token| grant(&clients.administering, &token)).map_err(LogError::Unavailable)?;
        }
        let answer = call(&clients.administering).await;
        answer.map_err(|error| {
            self.renew(clients);
            log_error(&error)
        })
    }

    pub(crate) async fn watermarks(&self, topic: &str, partition: u32) -> Result<(Offset, Offset), LogError> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let mut looks = 0;
            loop {
                match client.fetch_watermarks(&topic, signed(partition), LIMIT) {
                    Ok((low, high)) => return Ok((offset(low), offset(high))),
                    // leaders move, and for a moment a new topic's leader does not know that it is one
                    Err(error) if looks < LOOKS && error.rdkafka_error_code().is_some_and(|c| MOVING.contains(&c)) => {
                        looks += 1;
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Err(error) => return Err(log_error(&error)),
                }
            }
        })
        .await
    }

    pub(crate) async fn offset_at(&self, topic: &str, partition: u32, instant: Timestamp) -> Result<Offset, LogError> {
        let (_, end) = self.watermarks(topic, partition).await?;
        let topic = topic.to_owned();
        self.ask(move |client| {
            let mut times = TopicPartitionList::new();
            let asked = times.add_partition_offset(&topic, signed(partition), At::Offset(instant.millis().max(0)));
            let found = asked.and_then(|()| client.offsets_for_times(times, LIMIT)).map_err(|e| log_error(&e))?;
            let found = found.find_partition(&topic, signed(partition)).map(|element| element.offset());
            // none that late: the end as it was before the question, because records go on coming
            Ok(if let Some(At::Offset(found)) = found { offset(found) } else { end })
        })
        .await
    }

    pub(crate) async fn create(&self, specs: &[TopicSpec]) -> Result<Vec<String>, LogError> {
        let topics: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| {
                let topic = NewTopic::new(&spec.name, signed(spec.partitions), TopicReplication::Fixed(signed(spec.replication)));
                spec.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        // the client for administration does not say why it has no answer
        self.ask(|client| client.fetch_metadata(None, LIMIT).map(drop).map_err(|e| log_error(&e))).await?;
        let options = AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT));
        let results = self.administer(async |admin| admin.create_topics(&topics, &options).await).await?;
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => return Err(LogError::Unavailable(format!("cannot create {name}: {code}"))),
            }
        }
        for spec in specs.iter().filter(|s| created.contains(&s.name)) {
            self.await_leaders(spec).await?;
        }
        Ok(created)
    }

    /// Until every partition has a leader that knows of it: one broker may tell of a topic that another one has not
    /// heard of yet.
    async fn await_leaders(&self, spec: &TopicSpec) -> Result<(), LogError> {
        for _ in 0..LOOKS {
            let (name, partitions) = (spec.name.clone(), spec.partitions as usize);
            let led = self.ask(move |client| {
                let metadata = client.fetch_metadata(Some(&name), LIMIT).map_err(|e| log_error(&e))?;
                let Some(topic) = metadata.topics().first() else { return Ok(false) };
                let led: Vec<i32> = topic.partitions().iter().filter(|p| p.leader() >= 0).map(MetadataPartition::id).collect();
                let knows = |partition: &i32| match client.fetch_watermarks(&name, *partition, LIMIT) {
                    Ok(_) => Ok(true),
                    Err(error) if error.rdkafka_error_code().is_some_and(is_on_its_way) => Ok(false),
                    Err(error) => Err(log_error(&error)),
                };
                for partition in &led {
                    if !knows(partition)? {
                        return Ok(false);
                    }
                }
                Ok(led.len() == partitions)
            });
            if led.await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(LogError::Unavailable(format!("{} has no leaders yet", spec.name)))
    }

    pub(crate) async fn describe(&self, topic: &str) -> Result<Option<TopicSpec>, LogError> {
        let name = topic.to_owned();
        let shape = self.ask(move |client| {
            let metadata = client.fetch_metadata(Some(&name), LIMIT).map_err(|e| log_error(&e))?;
            let topic = metadata.topics().first().filter(|t| t.error().is_none() && !t.partitions().is_empty());
            Ok(topic.map(|t| (t.partitions().len(), t.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0))))
        });
        let Some((partitions, replication)) = shape.await? else { return Ok(None) };
        let options = AdminOptions::new().request_timeout(Some(LIMIT));
        let described = self.administer(async |admin| admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await).await?;
        let mut settings = Vec::new();
        for resource in described {
            let resource = resource.map_err(|code| LogError::Unavailable(format!("cannot read the settings of {topic}: {code}")))?;
            settings.extend(resource.entries.into_iter().filter_map(|e| e.value.map(|value| (e.name, value))));
        }
        settings.sort();
        let count = |n: usize| unsigned(i32::try_from(n).unwrap_or(0));
        Ok(Some(TopicSpec { name: topic.to_owned(), partitions: count(partitions), replication: count(replication), settings }))
    }

    pub(crate) async fn reach(&self, topic: &str) -> Result<usize, LogError> {
        let topic = topic.to_owned();
        // a cluster without brokers is one that a client has lost
        let none = || LogError::Unavailable("no broker answers".to_owned());
        self.ask(move |client| {
            let brokers = client.fetch_metadata(Some(&topic), LIMIT).map_err(|e| log_error(&e))?.brokers().len();
            if brokers == 0 { Err(none()) } else { Ok(brokers) }
        })
        .await
    }

    pub(crate) async fn brokers(&self) -> Result<Vec<(String, Vec<(String, String)>)>, LogError> {
        let ids = self.ask(|client| {
            let metadata = client.fetch_metadata(None, LIMIT).map_err(|e| log_error(&e))?;
            Ok(metadata.brokers().iter().map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port()))).collect::<Vec<_>>())
        });
        let options = AdminOptions::new().request_timeout(Some(LIMIT));
        let mut all = Vec::new();
        for (id, name) in ids.await? {
            let described = self.administer(async |admin| admin.describe_configs([&ResourceSpecifier::Broker(id)], &options).await).await?;
            let mut settings = Vec::new();
            for resource in described {
                let resource =
                    resource.map_err(|code| LogError::Unavailable(format!("cannot read the settings of broker {name}: {code}")))?;
                settings.extend(resource.entries.into_iter().filter_map(|e| e.value.map(|value| (e.name, value))));
            }
            all.push((name, settings));
        }
        Ok(all)
    }
}

/// Waits for the answer, and not to the end of its time where brokers refuse the client: librdkafka would go on hoping.
async fn answer<T>(client: &BaseConsumer<Asker>, mut asked: JoinHandle<Result<T, LogError>>) -> Result<T, LogError> {
    let mut refusals = 0;
    let answer = loop {
        if let Ok(answer) = tokio::time::timeout(LISTEN, &mut asked).await {
            break answer.map_err(|_| LogError::Unavailable("cancelled".into()))?;
        }
        listen(client);
        refusals += u32::from(client.context().refusal().is_some());
        if refusals >= REFUSALS {
            break Err(LogError::Unavailable("refused".into()));
        }
    };
    match answer {
        Err(LogError::Unavailable(why)) => {
            listen(client);
            Err(LogError::Unavailable(client.context().refusal().unwrap_or(why)))
        }
        answer => answer,
    }
}

/// Lets the client say what it has to say, and ask for tokens. It is subscribed to nothing, so no record comes.
fn listen(client: &BaseConsumer<Asker>) {
    if let Some(Err(error)) = client.poll(Duration::from_millis(5)) {
        debug!(%error, "questions");
    }
}
