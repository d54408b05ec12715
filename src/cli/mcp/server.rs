//! The protocol's side: which tools there are, and which of them is called.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::{NotificationContext, RequestContext};
use rmcp::{RoleServer, ServerHandler};
use serde::Serialize;

use super::arguments;
use super::call::Call;
use super::tools;
use super::workplace::Workplace;

/// Serves one client.
pub(super) struct McpServer {
    workplace: Arc<Workplace>,
    tools: Vec<Tool>,
}

impl McpServer {
    /// A server with the tools of these names, and what it takes to use them.
    pub(super) fn new(workplace: Arc<Workplace>, tools: &[&str]) -> Self {
        Self {
            workplace,
            tools: tools::selected(tools),
        }
    }
}

impl ServerHandler for McpServer {
    fn get_info(&self) -> ServerConfig {
        let implementation = Implementation::new("shell-escalation", env!("CARGO_PKG_VERSION"))
            .with_title("Shell under a policy");
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        info.server_info = implementation;
        info.with_instructions(self.workplace.instructions())
    }

    /// Questions are requests of the server, which later versions don't have.
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        ProtocolVersion::known_up_to(&ProtocolVersion::LATEST_WITH_INITIALIZE).into()
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.workplace.link.introduce(&context.peer);
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        if self.get_tool(name).is_none() {
            let message = format!("there is no tool {name:?}");
            return Err(ErrorData::invalid_params(message, None));
        }
        self.workplace.link.introduce(&context.peer);
        let call = Call::new(context, &self.workplace.link);
        let called = self.workplace.call(name, request.arguments, &call);
        let result = self.workplace.calls.track_future(called).await;
        Ok(result.unwrap_or_else(failed).into())
    }
}

impl Workplace {
    async fn call(
        &self,
        name: &str,
        arguments: Option<JsonObject>,
        call: &Call<'_>,
    ) -> Result<CallToolResult, String> {
        match name {
            tools::SHELL_COMMAND => {
                let result = self
                    .shell_command(arguments::read(name, arguments)?, call)
                    .await?;
                Ok(succeeded(result.text(), &result))
            }
            tools::EXEC_COMMAND => {
                let result = self.exec_command(arguments::read(name, arguments)?, call).await?;
                Ok(succeeded(result.text(), &result))
            }
            tools::WRITE_STDIN => {
                let result = self.write_stdin(arguments::read(name, arguments)?, call).await?;
                Ok(succeeded(result.text(), &result))
            }
            tools::CONTROL_SESSION => {
                let result = self.control_session(arguments::read(name, arguments)?).await?;
                Ok(succeeded(result.text(), &result))
            }
            tools::LIST_SESSIONS => {
                let result = self.list_sessions(&arguments::read(name, arguments)?)?;
                Ok(succeeded(result.text(), &result))
            }
            _ => Err(format!("there is no tool {name:?}")),
        }
    }
}

/// A result as text, and as data.
fn succeeded(text: String, result: &impl Serialize) -> CallToolResult {
    let mut succeeded = CallToolResult::success(vec![ContentBlock::text(text)]);
    succeeded.structured_content = Some(serde_json::to_value(result).expect("results are JSON"));
    succeeded
}

/// Why a tool could not do it, for the model.
fn failed(message: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(message)])
}
