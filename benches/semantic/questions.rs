//! Questions from a template: all different, all fit to be compared, and near enough to one another
//! that there are always neighbours to be judged.

const DEEDS: [&str; 16] = [
    "change", "cancel", "renew", "share", "export", "repair", "clean", "replace", "compare",
    "label", "insure", "test", "paint", "sell", "store", "measure",
];
const KINDS: [&str; 20] = [
    "old", "blue", "broken", "spare", "rented", "heavy", "wooden", "small", "shared", "public",
    "empty", "noisy", "wet", "plain", "round", "soft", "sharp", "bright", "narrow", "foreign",
];
const THINGS: [&str; 32] = [
    "bicycle", "contract", "printer", "kitchen", "invoice", "garden", "camera", "ticket", "window",
    "engine", "blanket", "passport", "mirror", "ladder", "piano", "fridge", "carpet", "battery",
    "keyboard", "umbrella", "suitcase", "helmet", "bottle", "candle", "curtain", "tractor",
    "violin", "saddle", "lantern", "hammer", "wallet", "kettle",
];
const PLACES: [&str; 32] = [
    "office",
    "school",
    "harbour",
    "hotel",
    "museum",
    "village",
    "library",
    "factory",
    "theatre",
    "airport",
    "hospital",
    "stadium",
    "bakery",
    "castle",
    "market",
    "station",
    "cellar",
    "island",
    "forest",
    "valley",
    "church",
    "prison",
    "studio",
    "garage",
    "farm",
    "bridge",
    "embassy",
    "laboratory",
    "warehouse",
    "courtroom",
    "nursery",
    "vineyard",
];

/// How many there are.
pub const COUNT: u64 = 16 * 20 * 32 * 32;

/// The question of that number, which begins anew at [`COUNT`]; neighbours in number are not alike.
pub fn question(number: u64) -> String {
    // odd and no multiple of five: it meets every number once
    let mixed = number.wrapping_mul(123_457) % COUNT;
    let mut rest = usize::try_from(mixed).unwrap_or(0);
    let mut pick = |words: &[&'static str]| {
        let word = words[rest % words.len()];
        rest /= words.len();
        word
    };
    let (thing, place, kind, deed) = (pick(&THINGS), pick(&PLACES), pick(&KINDS), pick(&DEEDS));
    format!("How do I {deed} the {kind} {thing} that belongs to the {place}?")
}
