//! What the targets share: how an input is read, how bytes are cut, and plain second opinions on
//! what the program reads. A second opinion is written to be checked by eye, not to be quick.
pub mod dice;
pub mod http1;
pub mod json;

use tidegate::wire::Kind;

pub use dice::Dice;

/// Every kind of call; an input names one by a letter, `a` the first.
pub const KINDS: [Kind; 15] = [
    Kind::Chat,
    Kind::Completions,
    Kind::Responses,
    Kind::Embeddings,
    Kind::Messages,
    Kind::CountTokens,
    Kind::Generate,
    Kind::StreamGenerate,
    Kind::GeminiEmbed,
    Kind::GeminiCount,
    Kind::OllamaChat,
    Kind::OllamaGenerate,
    Kind::OllamaEmbed,
    Kind::Models,
    Kind::Other,
];

pub fn kind(letter: u8) -> Kind {
    KINDS[usize::from(letter.wrapping_sub(b'a')) % KINDS.len()]
}

/// A directory of its own; `run` puts it in memory.
///
/// # Panics
/// Where no directory can be made at all.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}
