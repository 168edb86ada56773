//! What is known of vendors: data only. A new vendor that speaks a known dialect is one row.
//!
//! From the vendors' public documents, November 2026. `path` is where the API lives on the host,
//! `api_prefix` its version segment, which the SDKs of that dialect may or may not send.
use crate::wire::Dialect;

#[derive(Debug)]
pub(super) struct Vendor {
    /// The upstream's name that picks it.
    pub name: &'static str,
    /// OpenTelemetry's `gen_ai.provider.name`.
    pub provider: &'static str,
    pub dialect: Dialect,
    /// Scheme, host and port; `None` if each customer has a host of their own.
    pub base: Option<&'static str>,
    /// Hosts that end in this are the vendor's too.
    pub host_suffix: Option<&'static str>,
    pub path: &'static str,
    pub api_prefix: &'static str,
    /// Its Responses API knows `background: true`, and keeps such responses itself.
    pub background: bool,
    /// The header that carries the key; `None` for `Authorization: Bearer`.
    pub key_header: Option<&'static str>,
}

const fn openai_like(
    name: &'static str,
    provider: &'static str,
    base: &'static str,
    path: &'static str,
) -> Vendor {
    Vendor {
        name,
        provider,
        dialect: Dialect::OpenAi,
        base: Some(base),
        host_suffix: None,
        path,
        api_prefix: "/v1",
        background: false,
        key_header: None,
    }
}

/// The first of each dialect serves the bare paths of that dialect's SDKs.
pub(super) static VENDORS: &[Vendor] = &[
    Vendor { background: true, ..openai_like("openai", "openai", "https://api.openai.com", "") },
    Vendor {
        dialect: Dialect::Anthropic,
        key_header: Some("x-api-key"),
        ..openai_like("anthropic", "anthropic", "https://api.anthropic.com", "")
    },
    Vendor {
        dialect: Dialect::Gemini,
        api_prefix: "/v1beta",
        key_header: Some("x-goog-api-key"),
        ..openai_like("gemini", "gcp.gemini", "https://generativelanguage.googleapis.com", "")
    },
    Vendor {
        dialect: Dialect::Ollama,
        // its own paths are /api/chat, and /v1/chat/completions beside them
        api_prefix: "",
        ..openai_like("ollama", "ollama", "http://127.0.0.1:11434", "")
    },
    openai_like("groq", "groq", "https://api.groq.com", "/openai"),
    openai_like("mistral", "mistral_ai", "https://api.mistral.ai", ""),
    openai_like("openrouter", "openrouter", "https://openrouter.ai", "/api"),
    openai_like("deepseek", "deepseek", "https://api.deepseek.com", ""),
    openai_like("xai", "x_ai", "https://api.x.ai", ""),
    openai_like("together", "together_ai", "https://api.together.xyz", ""),
    openai_like("fireworks", "fireworks_ai", "https://api.fireworks.ai", "/inference"),
    Vendor {
        // documented without a version segment
        api_prefix: "",
        ..openai_like("perplexity", "perplexity", "https://api.perplexity.ai", "")
    },
    openai_like("cohere", "cohere", "https://api.cohere.ai", "/compatibility"),
    openai_like("cerebras", "cerebras", "https://api.cerebras.ai", ""),
    openai_like("nvidia", "nvidia", "https://integrate.api.nvidia.com", ""),
    openai_like("moonshot", "moonshot_ai", "https://api.moonshot.ai", ""),
    openai_like("huggingface", "hugging_face", "https://router.huggingface.co", ""),
    Vendor {
        base: None,
        host_suffix: Some(".openai.azure.com"),
        background: true,
        // /openai/deployments/… stands beside it and is called in full
        api_prefix: "/openai/v1",
        key_header: Some("api-key"),
        ..openai_like("azure", "azure.ai.openai", "", "")
    },
];

pub(super) fn by_name(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

pub(super) fn by_host(host: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| {
        let own = vendor.base.and_then(|base| base.split_once("://"));
        // a vendor on this machine is known by its name: its address says nothing
        own.is_some_and(|(scheme, own)| scheme == "https" && own == host)
            || vendor.host_suffix.is_some_and(|suffix| host.ends_with(suffix))
    })
}
