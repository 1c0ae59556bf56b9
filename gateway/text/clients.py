"""What front ends and agents write into messages that is not the user's: one table, an entry for each client.

All patterns are regular expressions, matched at the beginning of a text without its leading white space, whatever the
case. Tags are plain names. To add a client, add an entry and a captured request in `tests/fixtures/clients/`.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["CLIENTS", "Client", "Document"]


@dataclass(frozen=True, slots=True)
class Document:
    """A user message that holds a document and a question: `begin` matches its beginning; the question stands behind
    the last `end`, or in `question`, a tag."""

    begin: str
    end: str
    question: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The marks of one client.

    `cut_tags`: tags whose content a program put in. `kept_tags`: tags of which only the content is the user's words.
    `program_messages`: beginnings of user messages that the program wrote; the conversation goes on.
    `tool_results`: beginnings of user messages that carry the result of a tool.
    `tasks`: beginnings of last messages with which the program asks on its own account. `task_systems`: the same for
    system prompts. `documents`: templates of messages with documents.
    """

    name: str
    cut_tags: tuple[str, ...] = ()
    kept_tags: tuple[str, ...] = ()
    program_messages: tuple[str, ...] = ()
    tool_results: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    task_systems: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()


_MAKE = r"(?:generate|create|write|provide|suggest|produce|come up with|give|find|name|return)"
_TALK = (
    r"\b(?:this|the|our|your|above|following|given|an?|users?'?s?|previous|entire|whole)\s+(?:[\w-]+\s+){0,2}"
    r"(?:conversation|chat|discussion|dialogue|dialog|thread|session|messages?|exchange)\b"
    r"(?!\s+(?:app|application|bot|window|feature|paper|group|guide|post|article|book|forum)s?\b)"
)
_ZH_TALK = r"(?:对话|對話|聊天|会话|會話|谈话|交谈)"

CLIENTS: Final = (
    Client(
        name="any",
        tasks=(
            # a title, tags or a summary of the conversation itself, in the words of no client in particular
            rf"(?:please |you (?:should|must) |your task is to )?{_MAKE}\b[^\n]{{0,80}}"
            rf"\b(?:title|headline|topic name|heading)s?\b[^\n]{{0,80}}\b{_TALK}",
            rf"(?:based on|given|for|read|analy[sz]e|consider) "
            rf"{_TALK}[^\n]{{0,60}}\b{_MAKE}\b[^\n]{{0,60}}\b(?:title|tags|summary|headline|follow-?up|emoji)",
            rf"(?:please )?(?:summari[sz]e|name) {_TALK}[^\n]{{0,60}}\b(?:title|in \d+ words|words or less|characters)",
            rf"(?:请|請)?(?:你)?(?:为|為|給|给|根据|根據|基于|用|使用)[^\n]{{0,40}}{_ZH_TALK}[^\n]{{0,40}}(?:标题|標題|主题|主題|题目)",
            rf"(?:请|請)?(?:用|使用|以)[^\n]{{0,30}}(?:返回|概括|总结|總結|生成)[^\n]{{0,20}}{_ZH_TALK}?[^\n]{{0,20}}(?:主题|主題|标题|標題)",
            rf"(?:请|請)?(?:简要|簡要)?(?:总结|總結|概括)(?:一下)?(?:上面|以上|上述|下面|以下|前面)?的?{_ZH_TALK}",
            r"correct your json only response",
            r"recall the function correctly, fix the errors",
            r"given (?:the following|a) (?:chat history|conversation)[^\n]{0,120}(?:rephrase|reformulate|standalone)",
        ),
        task_systems=(
            r"(?:you are |you're |act as )(?:an? |the )?[^\n]{0,40}\b(?:title|summary|tag|emoji|topic|query)s?[ -]"
            r"(?:generator|generation|maker|writer|namer)",
            rf"(?:your (?:task|job|role) is to |please |you (?:should|must|will) )?{_MAKE}\b[^\n]{{0,60}}"
            rf"\b(?:title|headline|topic name)s?\b[^\n]{{0,60}}\b{_TALK}",
            rf"(?:you (?:are|will)|summari[sz]e|your task)[^\n]{{0,120}}\b(?:title|summary|summari[sz]e) [^\n]{{0,40}}"
            rf"\b(?:of|for) {_TALK}",
            r"[^\n]{0,40}(?:对话|對話|会话|會話|聊天)[^\n]{0,30}(?:标题|標題|命名|主题|主題)",
        ),
    ),
    Client(
        name="Open WebUI",
        tasks=(
            r"### Task:\s*\n(?!Respond to the user query)",
            r"Query: History:",
            r"Your task is to reflect the speaker's likely facial expression",
            r"You have been provided with a set of responses from various models",
            r"You are an autocompletion system",
        ),
        task_systems=(
            r"Available Tools:",
            r"### Task:\s*\n(?!Respond to the user query)",
        ),
        documents=(
            Document(r"### Task:\s*\nRespond to the user query using the provided context", "</context>", "user_query"),
        ),
    ),
    Client(
        name="Claude Code",
        cut_tags=(
            "system-reminder",
            "command-name",
            "command-message",
            "command-contents",
            "local-command-stdout",
            "local-command-stderr",
            "local-command-caveat",
            "bash-stdout",
            "bash-stderr",
            "bash-input",
            "task-notification",
            "ide_selection",
            "ide_opened_file",
            "ide_diagnostics",
            "new-diagnostics",
            "user-memory-input",
            "session-start-hook",
            "user-prompt-submit-hook",
        ),
        kept_tags=("command-args",),
        program_messages=(
            r"Caveat: The messages below were generated by the user while running local commands",
            r"\[Request interrupted by user",
            r"This session is being continued from a previous conversation",
            r"The user doesn't want to (?:proceed|take this action)",
            r"Called the \w+ tool with the following input",
            r"Result of calling the \w+ tool",
        ),
        tasks=(
            r"Warmup\s*\Z",
            r"quota\s*\Z",
            r"\[SUGGESTION MODE",
            r"Perform a web search for the query",
            r"Your task is to create a (?:detailed|concise|thorough) summary of (?:the|this|our) "
            r"(?:RECENT portion of the )?conversation",
            r"CRITICAL: Respond with TEXT ONLY",
            r"Please write a [^\n]{0,20}word title",
            r"Web page content:\s*\n---",
            r"<policy_spec>",
        ),
        task_systems=(
            r"Analyze if this message indicates a new conversation topic",
            r"Summarize this coding conversation in under",
            r"You are a helpful AI assistant tasked with summarizing conversations",
            r"Generate a (?:concise|succinct|short)[^\n]{0,60}title",
        ),
    ),
    Client(
        name="Codex",
        cut_tags=(
            "environment_context",
            "user_instructions",
            "INSTRUCTIONS",
            "permissions instructions",
            "turn_aborted",
            "user_shell_command",
            "subagent_notification",
            "skill",
            "collaboration_mode",
        ),
        program_messages=(
            r"# AGENTS\.md instructions",
            r"Another language model started to solve this problem",
        ),
        tasks=(r"You are performing a CONTEXT CHECKPOINT COMPACTION",),
    ),
    Client(
        name="Cline",
        cut_tags=(
            "environment_details",
            "explicit_instructions",
            "file_content",
            "folder_content",
            "file_mentions",
            "final_file_content",
            "url_content",
            "workspace_diagnostics",
            "git_working_state",
            "git_commit",
            "terminal_output",
            "workspaceConfiguration",
            "task_progress",
        ),
        kept_tags=("task", "user_message", "feedback", "answer", "user_feedback"),
        tool_results=(
            r"\[[\w .-]{2,60}(?: for '[^\n]{0,500}')?\] Result:",
            r"\[ERROR\] ",
            r"The user denied this operation",
            r"The tool execution failed",
            r"Error executing \w+:",
        ),
        program_messages=(
            r"\[TASK RESUMPTION\]",
            r"# Todo List",
            r"# task_progress",
            r"You seem to be having trouble proceeding",
        ),
        tasks=(
            r"(?:<explicit_instructions[^>]*>\s*)?"
            r"(?:The user has explicitly asked you to generate a detailed summary|Your task is to create a detailed)",
        ),
    ),
    Client(
        name="GitHub Copilot",
        cut_tags=(
            "environment_info",
            "workspace_info",
            "editorContext",
            "reminderInstructions",
            "reminder",
            "attachments",
            "attachment",
            "repoContext",
            "userPreferences",
            "toolReferences",
            "conversation-summary",
            "customInstructions",
        ),
        kept_tags=("userRequest", "user_query", "user_request", "user_input", "USER_REQUEST", "user-request"),
        task_systems=(r"You are an expert in crafting pithy titles",),
    ),
    Client(
        name="Gemini CLI, Qwen Code",
        cut_tags=("state_snapshot", "session_context", "hook_context", "loaded_context"),
        program_messages=(
            r"This is the (?:Gemini CLI|Qwen Code)\. We are setting up the context",
            r"I'm currently working in the director",
            r"Please continue\.\s*\Z",
            r"System: ",
        ),
        tasks=(
            r"Analyze \*only\* the content and structure of your immediately preceding response",
            r"First, reason in your scratchpad\. Then, generate the <state_snapshot>",
        ),
        task_systems=(
            r"You are the component that summarizes internal chat history",
            r"You are (?:now acting as )?(?:the |a )?[^\n]{0,40}memory[- ]"
            r"(?:extraction|consolidation|management|selection)?[ -]?(?:sub)?agent",
        ),
    ),
    Client(
        name="opencode, pi",
        tasks=(
            r"Generate a title for this conversation",
            r"What did we do so far\?",
            r"Provide a detailed (?:prompt|summary) for (?:continuing )?our conversation",
        ),
        program_messages=(
            r"Continue if you have next steps",
            r"The following tool was executed by the user",
            r"The conversation history before this point was compacted",
        ),
        task_systems=(r"You are a title generator", r"You are a context summarization assistant"),
    ),
    Client(
        name="LobeChat",
        cut_tags=("user_context", "files_info", "chat_context_additional_info", "speaker"),
        tasks=(r"(?:你是一名擅长会话的助理|你是一名擅長會話的助理)",),
        task_systems=(
            r"(?:你是一名擅长会话的助理|你是一名擅長會話的助理)",
            r"You are a (?:professional )?conversation (?:summary|summari[sz]ation) (?:expert|assistant)",
            r"You(?:'re| are) an assistant skilled in (?:conversation|dialogue)",
            r"You are a (?:professional )?(?:conversation|topic)[^\n]{0,30}(?:title|naming)",
        ),
    ),
    Client(
        name="Cherry Studio",
        tasks=(r"(?:总结给出的会话|總結給出的會話|Summarize the given session)",),
        task_systems=(
            r"(?:总结给出的会话|總結給出的會話|Summarize the given session)",
            r"You are an AI question rephraser",
            r"You are a Personal Information Organizer",
            r"You are a smart memory manager",
        ),
        documents=(Document(r"Please answer the question based on the reference materials", "## My question is:", ""),),
    ),
    Client(
        name="Chatbox",
        tasks=(
            r"Based on the chat history, give this conversation a name",
            r"As a professional web researcher",
            r"Based on the (?:chat|conversation) history[^\n]{0,60}name",
        ),
        task_systems=(r"As a professional web researcher",),
    ),
    Client(
        name="NextChat",
        tasks=(
            r"使用四到五个字直接返回这句话的简要主题",
            r"简要总结一下对话内容",
            r"Please generate a (?:four to five word|title)",
            r"Summarize the discussion briefly",
        ),
    ),
    Client(
        name="Continue",
        tasks=(
            r"Given the following\.\.\. please reply with a title",
            r"Please (?:reply|respond) with a title",
        ),
    ),
    Client(
        name="memory tools",
        tasks=(r"Below is (?:the|a) (?:conversation|dialogue) between[^\n]{0,80}(?:extract|facts)",),
        task_systems=(
            r"You are (?:an? )?[^\n]{0,60}\bmemory[ -](?:extract\w*|manager|agent|reader|keeper)",
            r"You are a Personal Information Organizer",
            r"(?:Extract|Identify)[^\n]{0,60}\b(?:facts|memories|entities)\b[^\n]{0,60}"
            r"\b(?:from|in) (?:the|this|a) (?:conversation|dialogue|messages?|chat)",
        ),
    ),
    Client(
        name="retrieval frameworks",
        documents=(
            Document(r"Context information is below", "Query:", ""),
            Document(r"Use the following context as your learned knowledge", "Query:", ""),
            Document(r"Use the following (?:pieces of )?context to answer", "Question:", ""),
        ),
        tool_results=(r"Observation:",),
    ),
)
