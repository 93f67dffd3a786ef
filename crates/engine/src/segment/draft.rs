//! A person under change. It remembers what it was where it is touched, so that a delta needs no copy of the whole.

use std::ops::Deref;

use prost::Message as _;
use waypost_codec::inbox::{Address, Cart, Consent, Field, Membership, Order, Person, Value, value::Kind};

use crate::person::{self, changed, find, gone};

/// Bytes before an encoded field: its key and its length.
const FIELD_HEAD: usize = 4;

/// A person, and what of it has been touched.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    person: Person,
    was: Was,
    /// Whether nothing was known of it.
    was_blank: bool,
}

/// What was there before it was first touched.
#[derive(Debug, Default)]
struct Was {
    /// Sorted by path; without value: there was no such field.
    fields: Vec<Field>,
    carts: Option<Vec<Cart>>,
    orders: Option<Vec<Order>>,
    consents: Option<Vec<Consent>>,
    addresses: Option<Vec<Address>>,
}

// === impl Draft ===

impl Draft {
    pub(crate) fn new(person: Person) -> Self {
        Self { was_blank: person::is_empty(&person), person, was: Was::default() }
    }

    pub(crate) fn into_person(self) -> Person {
        self.person
    }

    /// Sets a field unless a later event has set it; at equal time the later in the log wins.
    pub(crate) fn set_field(&mut self, path: &str, value: Value, at: i64) {
        if find(&self.person.fields, (path, "")).is_none_or(|f| f.set_at <= at) {
            self.put_field(path, value, at);
        }
    }

    /// Sets a field, whatever there was.
    pub(crate) fn put_field(&mut self, path: &str, value: Value, at: i64) {
        let fields = &mut self.person.fields;
        let was = match fields.binary_search_by(|f| f.path.as_str().cmp(path)) {
            Ok(place) => {
                let field = &mut fields[place];
                if field.set_at == at && field.value.as_ref() == Some(&value) {
                    return;
                }
                let (value, set_at) = (field.value.replace(value), std::mem::replace(&mut field.set_at, at));
                Field { path: path.to_owned(), value, set_at }
            }
            Err(place) => {
                fields.insert(place, Field { path: path.to_owned(), value: Some(value), set_at: at });
                Field { path: path.to_owned(), value: None, set_at: 0 }
            }
        };
        self.was.field(was);
    }

    /// Takes away the fields that are not to be kept.
    pub(crate) fn retain_fields(&mut self, keep: impl Fn(&Field) -> bool) {
        while let Some(place) = self.person.fields.iter().position(|field| !keep(field)) {
            self.remove_field(place);
        }
    }

    pub(crate) fn remove_field(&mut self, place: usize) {
        let field = self.person.fields.remove(place);
        self.was.field(field);
    }

    pub(crate) fn carts_mut(&mut self) -> &mut Vec<Cart> {
        self.was.carts.get_or_insert_with(|| self.person.carts.clone());
        &mut self.person.carts
    }

    pub(crate) fn orders_mut(&mut self) -> &mut Vec<Order> {
        self.was.orders.get_or_insert_with(|| self.person.orders.clone());
        &mut self.person.orders
    }

    pub(crate) fn consents_mut(&mut self) -> &mut Vec<Consent> {
        self.was.consents.get_or_insert_with(|| self.person.consents.clone());
        &mut self.person.consents
    }

    pub(crate) fn addresses_mut(&mut self) -> &mut Vec<Address> {
        self.was.addresses.get_or_insert_with(|| self.person.addresses.clone());
        &mut self.person.addresses
    }

    /// These, and the segments that it is plainly not in, are not remembered: who evaluates knows what has changed.
    pub(super) fn memberships_mut(&mut self) -> &mut Vec<Membership> {
        &mut self.person.memberships
    }

    pub(super) fn not_in_mut(&mut self) -> &mut Vec<u32> {
        &mut self.person.not_in
    }

    /// Paths of the fields that were touched.
    pub(super) fn touched_fields(&self) -> impl Iterator<Item = &str> {
        self.was.fields.iter().map(|f| f.path.as_str())
    }

    /// Whether nothing at all was known before.
    pub(super) fn was_blank(&self) -> bool {
        self.was_blank
    }

    /// The least and the most that an aggregate was before and is now; anything, where what is stored is no number.
    pub(super) fn range(&self, aggregate: &str) -> (i64, i64) {
        let number = |value: Option<&Value>| match value.map(|value| &value.kind) {
            None => Some(0),
            Some(Some(Kind::Int(number) | Kind::Money(number))) => Some(*number),
            Some(_) => None,
        };
        let now = person::field(&self.person, aggregate);
        let was = find(&self.was.fields, (aggregate, "")).map_or(now, |was| was.value.as_ref());
        match (number(was), number(now)) {
            (Some(was), Some(now)) => (was.min(now), was.max(now)),
            _ => (i64::MIN, i64::MAX),
        }
    }

    pub(super) fn has_touched_field(&self, path: &str) -> bool {
        find(&self.was.fields, (path, "")).is_some()
    }

    pub(super) fn has_touched_carts(&self) -> bool {
        self.was.carts.is_some()
    }

    pub(super) fn has_touched_orders(&self) -> bool {
        self.was.orders.is_some()
    }

    pub(super) fn has_touched_addresses(&self) -> bool {
        self.was.addresses.is_some()
    }

    /// Bytes of the person when encoded, segments left out.
    pub(super) fn len_without_segments(&mut self) -> usize {
        let (memberships, not_in) = (std::mem::take(&mut self.person.memberships), std::mem::take(&mut self.person.not_in));
        let len = self.person.encoded_len();
        (self.person.memberships, self.person.not_in) = (memberships, not_in);
        len
    }

    /// Bytes by which the person has become longer, segments left out, at most; none where more than fields was touched.
    pub(super) fn longer_by(&self) -> Option<usize> {
        let Was { fields, carts, orders, consents, addresses } = &self.was;
        if carts.is_some() || orders.is_some() || consents.is_some() || addresses.is_some() {
            return None;
        }
        let field = |was: &Field| find(&self.person.fields, (&was.path, "")).map_or(0, |field| FIELD_HEAD + field.encoded_len());
        Some(fields.iter().map(field).sum())
    }

    /// What has to be applied to the person that it was to make it what it is: [`person::diff`], with this of the segments.
    pub(super) fn delta(&self, segments: Person) -> Person {
        let Was { fields, carts, orders, consents, addresses } = &self.was;
        let now = &self.person;
        let mut delta = Person { fields: fields.iter().filter_map(|was| self.news_of(was)).collect(), ..segments };
        if let Some(was) = carts {
            delta.carts = changed(was, &now.carts);
            delta.removed_carts = gone(was, &now.carts).map(|c| c.cart_id.clone()).collect();
        }
        if let Some(was) = orders {
            delta.orders = changed(was, &now.orders);
            delta.removed_orders = gone(was, &now.orders).map(|o| o.order_id.clone()).collect();
        }
        if let Some(was) = consents {
            delta.consents = changed(was, &now.consents);
            for gone in gone(was, &now.consents) {
                person::upsert(&mut delta.consents, &person::removal_of_consent(gone));
            }
        }
        if let Some(was) = addresses {
            delta.addresses = changed(was, &now.addresses);
        }
        delta
    }

    /// What a delta says of a field that was touched.
    fn news_of(&self, was: &Field) -> Option<Field> {
        match find(&self.person.fields, (&was.path, "")) {
            Some(field) => (field != was).then(|| field.clone()),
            None => was.value.is_some().then(|| Field { path: was.path.clone(), value: None, set_at: 0 }),
        }
    }
}

impl Deref for Draft {
    type Target = Person;

    fn deref(&self) -> &Person {
        &self.person
    }
}

// === impl Was ===

impl Was {
    fn field(&mut self, was: Field) {
        if let Err(place) = self.fields.binary_search_by(|f| f.path.cmp(&was.path)) {
            self.fields.insert(place, was);
        }
    }
}
