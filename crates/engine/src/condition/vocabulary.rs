//! The names that conditions know, with their types (PRODUCT §4, §5.1, §6.2, §6.3).

use super::Type;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A value of this type.
    As(Type),
    /// Named by the product, not built yet.
    NotYet,
}

const PROFILE_TEXT: &str = "email phone first_name last_name gender company language locale timezone country region city postcode";
const PROFILE_NOT_YET: &str = "devices chat tags shipping_address billing_address wishlist interests viewed categories searched tickets loyalty \
    topics channel frequency snooze_until reminders offers runs aov lifecycle_stage cadence predicted_next_order_at churn_risk rfm_r rfm_f rfm_m visits_30d \
    site_seconds_7d last_engaged_at engagement sends_30d opens_30d clicks_30d favourite_categories favourite_brands categories_bought \
    preferred_channel best_hour offers_90d discount_share open_tickets";
const PROFILE_NAMES: &str = "email phone first_name last_name gender company language locale timezone country region city postcode birthday \
    created_at carts orders extra order_count first_order_at last_order_at ltv last_seen_at";

// As the doors normalise them: what is not here keeps the type it came with, known at run time.
const PROPERTY_TEXT: &str = "product_id sku name category brand variant coupon coupon_id coupon_name cart_id order_id checkout_id list_id \
    wishlist_id wishlist_name review_id promotion_id form_id store_id ticket_id survey_id subscription_id program_id shipment_id return_id \
    group_id affiliation shipping_method payment_method carrier channel topic state basis tier previous_tier status email phone currency url \
    image_url checkout_url cart_url tracking_url";
const PROPERTY_TIME: &str = "at expires_at estimated_at delivered_at last_active";
const MONEY: &str = "price value revenue total subtotal shipping tax discount previous_price";

const META: [(&str, Type); 5] =
    [("name", Type::Text), ("id", Type::Text), ("time", Type::Time), ("received_at", Type::Time), ("source", Type::Text)];
const RUN: [(&str, Type); 4] = [("id", Type::Text), ("key", Type::Text), ("entered_at", Type::Time), ("version", Type::Int)];

const LINE_NAMES: &str = "product_id sku name category brand variant price price_base url image_url quantity coupon position";
const CART_NAMES: &str = "cart_id status lines value total updated_at";
const ORDER_NAMES: &str = "order_id status flags lines value total placed_at updated_at cart_id";
const ORDER_NOT_YET: &str = "delivered_at estimated_at carrier tracking_url";

/// Functions of the language that may be called, `f(x)`.
pub(super) const FUNCTIONS: &str = "within elapsed idle default known has in_segment money cart cart_open order days double size";
/// What is called on a value, `x.f(y)`.
pub(super) const METHODS: &str = "contains startsWith endsWith matches size exists all";
/// Functions of PRODUCT §6.3 that are not built yet.
pub(super) const FUNCTIONS_NOT_YET: &str = "did count local_between local_day local_today_is consented reachable bucket age item in_cart bought \
    shares live sent gap";

fn among(list: &str, name: &str) -> bool {
    words(list).any(|word| word == name)
}

/// The words of one of the lists here.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split_whitespace()
}

/// `profile.<name>`.
pub(super) fn profile(name: &str) -> Option<Known> {
    let ty = match name {
        "birthday" => Type::Date,
        "created_at" | "first_order_at" | "last_order_at" | "last_seen_at" => Type::Time,
        "carts" => Type::list(Type::Cart),
        "orders" => Type::list(Type::Order),
        "extra" => Type::Any,
        "order_count" => Type::Int,
        "ltv" => Type::Money,
        _ if among(PROFILE_TEXT, name) => Type::Text,
        _ => return among(PROFILE_NOT_YET, name).then_some(Known::NotYet),
    };
    Some(Known::As(ty))
}

/// Names below `profile` that can be read.
pub(super) fn profile_names() -> impl Iterator<Item = &'static str> {
    words(PROFILE_NAMES)
}

/// `event.<name>` and `entry.<name>`; what no event of the vocabulary names is typed at run time.
pub(super) fn property(name: &str) -> Type {
    match name {
        "quantity" | "position" | "seconds" | "replenish_days" => Type::Int,
        "products" => Type::list(Type::Line),
        "machine" | "available" | "previous_available" => Type::Bool,
        _ if among(MONEY, name) => Type::Amount,
        _ if name.strip_suffix("_base").is_some_and(|base| among(MONEY, base)) => Type::Money,
        _ if among(PROPERTY_TEXT, name) => Type::Text,
        _ if among(PROPERTY_TIME, name) => Type::Time,
        _ => Type::Any,
    }
}

/// `event.meta.<name>`.
pub(super) fn meta(name: &str) -> Option<Type> {
    META.iter().find(|(n, _)| *n == name).map(|(_, ty)| ty.clone())
}

/// Names below `meta`.
pub(super) fn meta_names() -> impl Iterator<Item = &'static str> {
    META.iter().map(|(name, _)| *name)
}

/// `run.<name>`.
pub(super) fn run(name: &str) -> Option<Type> {
    RUN.iter().find(|(n, _)| *n == name).map(|(_, ty)| ty.clone())
}

/// Names below `run`.
pub(super) fn run_names() -> impl Iterator<Item = &'static str> {
    RUN.iter().map(|(name, _)| *name)
}

/// A field of a line, a cart or an order.
pub(super) fn field(record: &Type, name: &str) -> Option<Known> {
    let known = |names: &str| among(names, name);
    let ty = match (record, name) {
        (Type::Line, _) if !known(LINE_NAMES) => return (name == "reviewed").then_some(Known::NotYet),
        (Type::Cart, _) if !known(CART_NAMES) => return None,
        (Type::Order, _) if !known(ORDER_NAMES) => return known(ORDER_NOT_YET).then_some(Known::NotYet),
        (Type::Line, "price") | (_, "total") => Type::Amount,
        (Type::Line, "price_base") | (Type::Cart | Type::Order, "value") => Type::Money,
        (Type::Line, "quantity" | "position") => Type::Int,
        (Type::Cart | Type::Order, "lines") => Type::list(Type::Line),
        (Type::Cart | Type::Order, "updated_at" | "placed_at") => Type::Time,
        (Type::Order, "flags") => Type::list(Type::Text),
        (Type::Line | Type::Cart | Type::Order, _) => Type::Text,
        _ => return None,
    };
    Some(Known::As(ty))
}

/// Names of a record's fields.
pub(super) fn field_names(record: &Type) -> impl Iterator<Item = &'static str> {
    let names = if *record == Type::Line {
        LINE_NAMES
    } else if *record == Type::Cart {
        CART_NAMES
    } else if *record == Type::Order {
        ORDER_NAMES
    } else {
        ""
    };
    words(names)
}
