//! Event names (PRODUCT §4.2): first-version aliases, and what each name must bring.

/// One of these properties must be there.
pub(crate) type AnyOf = &'static [&'static str];

/// What a known name demands; custom names demand nothing.
pub(crate) fn required(name: &str) -> &'static [AnyOf] {
    match name {
        "Products Searched" => &[&["query"]],
        "Product List Viewed" => &[&["category", "list_id"]],
        "Product Clicked"
        | "Product Viewed"
        | "Product Added"
        | "Product Removed"
        | "Product Reviewed"
        | "Product Added to Wishlist"
        | "Product Removed from Wishlist"
        | "Wishlist Product Added to Cart"
        | "Stock Alert Requested"
        | "Stock Alert Cancelled"
        | "Price Alert Requested"
        | "Price Alert Cancelled" => &[&["product_id"]],
        "Cart Updated" => &[&["cart_id"], &["products"]],
        "Checkout Started" => &[&["checkout_id", "order_id"]],
        "Checkout Step Viewed" | "Checkout Step Completed" | "Payment Info Entered" => &[&["checkout_id"]],
        "Order Completed" => &[&["order_id"], &["products", "revenue", "total", "subtotal", "value"]],
        "Order Updated"
        | "Order Cancelled"
        | "Order Refunded"
        | "Order Fulfilled"
        | "Order Shipped"
        | "Shipment Delayed"
        | "Shipment Out For Delivery"
        | "Order Delivered" => &[&["order_id"]],
        "Return Requested" | "Order Returned" => &[&["order_id"], &["return_id"]],
        "Payment Failed" => &[&["order_id", "checkout_id"]],
        "Subscription Started" | "Subscription Renewed" | "Subscription Paused" | "Subscription Cancelled" => {
            &[&["subscription_id"], &["product_id"]]
        }
        "Coupon Entered" | "Coupon Applied" | "Coupon Removed" | "Coupon Denied" => &[&["coupon_id"]],
        "Lead Captured" => &[&["form_id"]],
        "Time On Page" => &[&["url"], &["seconds"]],
        "Store Visited" | "Appointment Booked" => &[&["store_id"]],
        "Support Ticket Opened" | "Support Ticket Closed" => &[&["ticket_id"]],
        "Survey Answered" => &[&["survey_id"]],
        "Subscribed" | "Unsubscribed" => &[&["channel"], &["topic"]],
        "Consent Changed" => &[&["channel"], &["topic"], &["state"], &["basis"]],
        "Reminder Set" => &[&["product_id"], &["at"]],
        "Loyalty Joined" | "Loyalty Left" => &[&["program_id"]],
        "Loyalty Tier Changed" => &[&["tier"], &["previous_tier"]],
        "Loyalty Points Changed" => &[&["balance"], &["delta"]],
        "Group Joined" => &[&["group_id"]],
        _ => &[],
    }
}

/// Words that a property of a name may have, where only some mean anything.
pub(crate) fn allowed_words(name: &str) -> &'static [(&'static str, &'static [&'static str])] {
    match name {
        "Consent Changed" => {
            &[("state", &["granted", "denied", "pending"]), ("basis", &["express", "implied", "contract", "legitimate_interest"])]
        }
        _ => &[],
    }
}

/// Known names of a later version.
pub(crate) fn not_yet_supported(name: &str) -> bool {
    matches!(
        name,
        "Catalog Product Created"
            | "Catalog Product Updated"
            | "Catalog Product Removed"
            | "Product Price Changed"
            | "Product Stock Changed"
    )
}

/// Whether an `email` or `phone` among the properties is the person's own. In other events it may be
/// somebody else's (a gift, a friend), and must not join two people.
pub(crate) fn names_the_person(name: &str) -> bool {
    matches!(
        name,
        "Checkout Started"
            | "Order Completed"
            | "Order Updated"
            | "Order Cancelled"
            | "Order Refunded"
            | "Signed Up"
            | "Signed In"
            | "Lead Captured"
            | "Subscribed"
            | "Unsubscribed"
            | "Consent Changed"
    )
}

/// The name it is stored under: that of the second version of the vocabulary.
pub(crate) fn stored(name: &str) -> &str {
    match name {
        "Viewed Product Category" => "Product List Viewed",
        "Viewed Promotion" => "Promotion Viewed",
        "Clicked Promotion" => "Promotion Clicked",
        "Clicked Product" => "Product Clicked",
        "Viewed Product" => "Product Viewed",
        "Added Product" => "Product Added",
        "Removed Product" => "Product Removed",
        "Started Order" => "Checkout Started",
        "Viewed Checkout Step" => "Checkout Step Viewed",
        "Completed Checkout Step" => "Checkout Step Completed",
        "Completed Order" => "Order Completed",
        "Updated Order" => "Order Updated",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_version_names_are_stored_as_second() {
        assert_eq!(stored("Completed Order"), "Order Completed");
        assert_eq!(stored("Order Completed"), "Order Completed");
        assert_eq!(stored("My Own Event"), "My Own Event");
    }
}
