//! Reading an event's properties where they lie.

use waypost_codec::{
    inbox::{Amount, Line},
    view::{Object, Value},
};
use waypost_types::{Currency, Timestamp};

/// Lines kept of a cart or an order.
pub(crate) const MAX_LINES: usize = 50;
/// Longest id of a cart, an order or a product, bytes; a longer one is none.
const MAX_ID: usize = 255;
/// Bytes of texts in a line; the longest are left out.
const MAX_CARD: usize = 512;

/// An object of properties, and the currency in which the workspace counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties<'a> {
    object: Option<&'a Object<'a>>,
    currency: Currency,
}

// === impl Properties ===

impl<'a> Properties<'a> {
    pub(super) fn new(object: Option<&'a Object<'a>>, currency: Currency) -> Self {
        Self { object, currency }
    }

    /// The property of this name, if it says anything.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value<'a>> {
        self.object?.get(name).filter(|value| **value != Value::Nothing)
    }

    /// A text that says something; a number is one too where an id is meant.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name)?;
        if let Value::Int(number) = value {
            return Some(number.to_string());
        }
        if let Value::Text(text) = value { Some((*text).to_owned()).filter(|t| !t.is_empty()) } else { None }
    }

    /// A text that names a record.
    pub(super) fn id(&self, name: &str) -> Option<String> {
        self.text(name).filter(|id| id.len() <= MAX_ID)
    }

    /// Whether it names a record by an id too long to keep.
    pub(super) fn has_long_id(&self) -> bool {
        // A number is short.
        ["cart_id", "order_id"].iter().any(|name| matches!(self.value(name), Some(Value::Text(id)) if id.len() > MAX_ID))
    }

    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        if let Value::Time(ms) = self.value(name)? { Some(Timestamp::from_millis(*ms)) } else { None }
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        let value = self.value(name)?;
        if let Value::Decimal(millionths) = value {
            return Some(millionths / 1_000_000);
        }
        if let Value::Int(number) = value { Some(*number) } else { None }
    }

    /// Minor units in the workspace's currency: `<name>_base`, else `<name>` if it is in that currency.
    pub(super) fn money(&self, name: &str) -> Option<i64> {
        let own = |name: &str| {
            if let Value::Money(minor) = self.value(name)? {
                return Some(*minor);
            }
            self.amount(name).filter(|a| a.currency == self.currency.as_str()).map(|a| a.minor)
        };
        own(&format!("{name}_base")).or_else(|| own(name))
    }

    /// The amount in the currency it came in.
    pub(super) fn amount(&self, name: &str) -> Option<Amount> {
        let value = self.value(name)?;
        if let Value::Money(minor) = value {
            return Some(Amount { minor: *minor, currency: self.currency.as_str().to_owned() });
        }
        if let Value::Amount { minor, currency } = value {
            return Some(Amount { minor: *minor, currency: (*currency).to_owned() });
        }
        None
    }

    /// Whether the property is there at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The lines of `products`; none where the event has no such list.
    pub(super) fn lines(&self) -> Option<Vec<Line>> {
        let Value::List(items) = self.value("products")? else { return None };
        let objects = items.iter().filter_map(|item| if let Value::Object(object) = item { Some(object) } else { None });
        let mut lines: Vec<Line> = Vec::new();
        for line in objects.filter_map(|object| Self::new(Some(object), self.currency).line()) {
            if let Some(known) = lines.iter_mut().find(|l| same_product(l, &line)) {
                known.quantity = known.quantity.saturating_add(line.quantity);
            } else if lines.len() < MAX_LINES {
                lines.push(line);
            }
        }
        Some(lines)
    }

    /// The line that these properties are: a product of a list, or the product of Product Added.
    pub(super) fn line(&self) -> Option<Line> {
        let of = |name| self.text(name).unwrap_or_default();
        let id = |name| self.id(name).unwrap_or_default();
        let (product_id, sku) = (id("product_id"), id("sku"));
        if product_id.is_empty() && sku.is_empty() {
            return None;
        }
        let quantity = self.int("quantity").unwrap_or(1);
        let mut line = Line {
            product_id,
            sku,
            name: of("name"),
            category: of("category"),
            brand: of("brand"),
            variant: of("variant"),
            price: self.money("price"),
            price_amount: self.amount("price"),
            url: of("url"),
            image_url: of("image_url"),
            quantity,
        };
        shorten(&mut line);
        (quantity >= 1).then_some(line)
    }
}

/// Whether two lines are of one product.
pub(crate) fn same_product(a: &Line, b: &Line) -> bool {
    if a.product_id.is_empty() || b.product_id.is_empty() {
        return a.sku == b.sku && !a.sku.is_empty();
    }
    a.product_id == b.product_id && (a.variant == b.variant || a.variant.is_empty() || b.variant.is_empty())
}

/// Whether two lists of lines have a product in common.
pub(crate) fn share_product(a: &[Line], b: &[Line]) -> bool {
    a.iter().any(|a| b.iter().any(|b| same_product(a, b)))
}

/// Leaves out the longest texts of a card that is too large.
fn shorten(line: &mut Line) {
    let Line { name, category, brand, variant, url, image_url, .. } = line;
    let mut texts = [name, category, brand, variant, url, image_url];
    while texts.iter().map(|t| t.len()).sum::<usize>() > MAX_CARD {
        if let Some(longest) = texts.iter_mut().max_by_key(|t| t.len()) {
            longest.clear();
        }
    }
}

/// Σ price × quantity in the workspace's currency; none where a line has no price.
pub(crate) fn value_of(lines: &[Line]) -> Option<i64> {
    lines.iter().try_fold(0_i64, |sum, line| Some(sum.saturating_add(line.price?.saturating_mul(line.quantity))))
}

/// Σ price × quantity in the currency it came in; none where it came in several, or without price.
pub(crate) fn total_of(lines: &[Line]) -> Option<Amount> {
    let currency = lines.first()?.price_amount.as_ref()?.currency.clone();
    let minor = lines.iter().try_fold(0_i64, |sum, line| {
        let price = line.price_amount.as_ref().filter(|p| p.currency == currency)?;
        Some(sum.saturating_add(price.minor.saturating_mul(line.quantity)))
    })?;
    Some(Amount { minor, currency })
}
