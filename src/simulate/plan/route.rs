//! Which endpoint a request is for.
use crate::simulate::answer::Face;
use crate::simulate::embed::Form;
use crate::simulate::http::{Head, Method};
use crate::wire::Dialect;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    Seen,
    Echo,
    Mirror,
    Tunnel,
    Models,
    Model(&'a str),
    Tags,
    Version,
    /// `stream` where the path decides it.
    Generate {
        face: Face,
        model: Option<&'a str>,
        stream: Option<bool>,
    },
    Embed(Form),
    Count,
    Unknown,
}

impl<'a> Route<'a> {
    /// Whatever stands before the known end of a path does not matter: base URLs differ.
    pub fn of(path: &'a str, query: &str) -> Self {
        let generate = |face| Self::Generate { face, model: None, stream: None };
        if let Some((before, method)) = path.rsplit_once(':') {
            let model = before.rsplit_once('/').map(|(_, model)| model);
            let array = !query.split('&').any(|pair| pair == "alt=sse");
            let face = Face::Gemini { array };
            return match method {
                "generateContent" => Self::Generate { face, model, stream: Some(false) },
                "streamGenerateContent" => Self::Generate { face, model, stream: Some(true) },
                "embedContent" => Self::Embed(Form::Gemini),
                "batchEmbedContents" => Self::Embed(Form::GeminiBatch),
                "countTokens" => Self::Count,
                _ => Self::Unknown,
            };
        }
        if let Some((_, control)) = path.split_once("/simulate/") {
            return match control.split('/').next() {
                Some("seen") => Self::Seen,
                Some("echo") => Self::Echo,
                Some("mirror") => Self::Mirror,
                Some("tunnel") => Self::Tunnel,
                _ => Self::Unknown,
            };
        }
        let mut ends = path.rsplit('/');
        let (last, before) = (ends.next().unwrap_or_default(), ends.next().unwrap_or_default());
        match (before, last) {
            ("chat", "completions") => generate(Face::Chat),
            (_, "completions") => generate(Face::Completion),
            (_, "responses") => generate(Face::Responses),
            (_, "messages") => generate(Face::Messages),
            ("api", "chat") => generate(Face::OllamaChat),
            ("api", "generate") => generate(Face::OllamaGenerate),
            ("api", "embed") => Self::Embed(Form::Ollama),
            ("api", "embeddings") => Self::Embed(Form::OllamaSingle),
            (_, "embeddings") => Self::Embed(Form::OpenAi),
            ("messages", "count_tokens") | ("responses", "input_tokens") => Self::Count,
            ("api", "tags") => Self::Tags,
            ("api", "version") => Self::Version,
            (_, "models") => Self::Models,
            ("models", model) => Self::Model(model),
            (_, "" | "health" | "healthz" | "livez" | "readyz") => Self::Health,
            _ => Self::Unknown,
        }
    }

    /// The simulator's own endpoints, which the process's fault leaves alone.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Health | Self::Seen | Self::Echo | Self::Mirror | Self::Tunnel)
    }

    pub fn takes(self, method: Method) -> bool {
        match self {
            Self::Generate { .. } | Self::Embed(_) | Self::Count => method == Method::Post,
            Self::Models | Self::Model(_) | Self::Tags | Self::Version | Self::Health => {
                matches!(method, Method::Get | Method::Head)
            }
            _ => true,
        }
    }
}

/// The dialect of a path, for models, counts and errors.
pub(super) fn dialect(path: &str, head: &Head) -> Dialect {
    if path.contains("/messages") {
        Dialect::Anthropic
    } else if path.contains("/api/") {
        Dialect::Ollama
    } else if path.contains("/v1beta/") || path.contains(':') {
        Dialect::Gemini
    } else if head.anthropic {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}
