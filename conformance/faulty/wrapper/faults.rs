//! The ways in which this wrapper can be wrong, and the ways in which it can be right but unusual.
//!
//! A new fault is a variant of [`Fault`], an `if broken(Fault::…)` where it goes wrong, and an entry in
//! `../wrapper-faults.toml`. Its name is the variant's in kebab case.

use std::sync::OnceLock;

use clap::ValueEnum;

/// What this wrapper does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    // Handshake, frames and requests.
    #[value(name = "handshake-byte-1")]
    HandshakeByte1,
    HandshakeTwoBytes,
    HandshakeTwoDescriptors,
    HandshakeWithoutDescriptor,
    HandshakeDatagramPair,
    HandshakeTwice,
    RequestTwice,
    LengthBigEndian,
    LengthInCharacters,
    LengthIncludesItself,
    TrailingNewlineUncounted,
    RequestNoUtf8,
    #[value(name = "request-cut-at-64-kib")]
    RequestCutAt64Kib,
    CompactRepliesOnly,
    EscapesNotDecoded,
    SplitFramesRefused,
    HeaderInOnePiece,
    BufferResetBetweenPieces,
    JoinedFramesLost,
    ResultLostBehindDescriptors,
    DescriptorsWithThePayload,
    DescriptorsOneByOne,
    MemberMisnamed,
    UnknownMembersRefused,
    BytesReplaced,
    BytesDropped,
    #[value(name = "bytes-as-latin-1")]
    BytesAsLatin1,
    AnyLengthAccepted,
    OneMebibyteAtMost,
    TrailingDataIgnored,
    ReplySearchedForRun,
    MalformedReplyDenies,
    MalformedReplyPanics,
    ReplyDescriptorsKept,
    // The call, and what the request says of it.
    UsageAsksTheServer,
    #[value(name = "usage-with-status-0")]
    UsageWithStatus0,
    OptionsAreParsed,
    DashArgv0Refused,
    DashFileRefused,
    FileMadeAbsolute,
    ArgvWithoutArgv0,
    Argv0ReplacedByFile,
    EmptyArgumentsDropped,
    ArgvTrimmed,
    ThousandArgumentsAtMost,
    WorkdirFromPwd,
    EmptyVariablesDropped,
    ValuesEndAtEquals,
    EnvironmentKeepsTheThree,
    EnvironmentKeepsTheAlias,
    SimilarNamesLeftOut,
    // Run.
    GivesUpWaiting,
    RunSpawns,
    RunReplacesArgv0,
    RunChangesDirectory,
    RunCleansTheEnvironment,
    RunAddsAVariable,
    RunClosesTheSocket,
    RunSearchesPath,
    // Escalate.
    #[value(name = "only-0-and-1")]
    Only0And1,
    OneDescriptorMissing,
    DescriptorsInWrongOrder,
    DescriptorsAreNew,
    DescriptorsOpenedAgain,
    #[value(name = "status-modulo-128")]
    StatusModulo128,
    #[value(name = "status-0-or-1")]
    Status0Or1,
    #[value(name = "status-always-0")]
    StatusAlways0,
    #[value(name = "status-over-127-becomes-1")]
    StatusOver127Becomes1,
    EscalateDoesNotWait,
    GivesUpOnTheResult,
    EscalateExecutesToo,
    // Deny.
    DenialWithoutMessage,
    DenialOnStandardOutput,
    DenialTwice,
    DenialWithoutNewline,
    NoReasonSaidAsNull,
    ReasonLeftOut,
    ReasonCutAtTheFirstNewline,
    #[value(name = "reason-cut-at-1-kib")]
    ReasonCutAt1Kib,
    ReasonAsAscii,
    ReasonAsFormat,
    #[value(name = "denial-with-status-0")]
    DenialWithStatus0,
    #[value(name = "denial-with-status-126")]
    DenialWithStatus126,
    DeniedRunsAnyway,
    // What the process inherits and passes on.
    SigpipeLeftIgnored,
    IgnoredSignalsReset,
    SigintIgnoredReset,
    MaskCleared,
    MaskFilled,
    StreamLeaksIntoTheCommand,
    OtherEndKept,
    StdinMadeNonblocking,
    SocketMadeNonblocking,
    SocketMadeBlocking,
    RunClosesOthers,
    UmaskReset,
    NiceReset,
    LimitsRaised,
    OwnProcessGroup,
    NewPrivilegesRefused,
    // Files that cannot be executed.
    #[value(name = "missing-with-status-1")]
    MissingWithStatus1,
    #[value(name = "missing-always-127")]
    MissingAlways127,
    #[value(name = "missing-always-126")]
    MissingAlways126,
    MissingWithoutMessage,
    BareScriptsRefused,
    BareScriptsLoseArguments,
    // Descriptors that are handed over, and signals that are forwarded.
    NullOnClosedStdio,
    NullSentForClosedStreams,
    OnlyStandardStreams,
    NumbersCompacted,
    EscalationSocketSent,
    SignalsNotAnnounced,
    SignalsSwallowed,
    OnlySigtermForwarded,
    OnlyUsualSignalsForwarded,
    IgnoredNotForwarded,
    BlockedNotForwarded,
    TerminalNotTold,
    SenderNotTold,
    StopsNotCounted,
    StreamReadBeforeSignals,
    #[value(name = "limits-cut-to-32-bits")]
    LimitsCutTo32Bits,
    #[value(name = "empty-variable-is-0")]
    EmptyVariableIs0,
    WhiteSpaceOfC,
    TooManyReferencesFail,
    SignalsHeldByAFullSocket,
    StaleStopObeyed,
    TerminalAlwaysTold,
    TerminalOnlyOfKeys,
    TerminalOnlyOfInterrupts,
    TerminalNotInTheBackground,
    TerminalOfEveryKernelSignal,
    SenderOnlyOfKill,
    #[value(name = "sender-0-told")]
    Sender0Told,
    SenderOfTheKernelTold,
    StopsAlone,
    AloneIgnored,
    StopSignalNeverForgotten,
    StopSignalKeptOverAContinuation,
    DiscardedContinuationNotTold,
    IgnoredNotTold,
    SoftLimitsOnly,
    OneLimitOnly,
    #[value(name = "nice-always-0")]
    NiceAlways0,
    #[value(name = "niceness-below-0-told-as-0")]
    NicenessBelow0ToldAs0,
    FewLimitsTold,
    InfinityAsANumber,
    SignalsAllBecomeTerm,
    DiesByForwardedSignals,
    StopNotForwarded,
    StoppedIgnored,
    ContinueNotTold,
    UmaskConstant,
    UmaskAsText,
    KeepsStandardInput,
    KeepsStandardOutput,
    KeepsHigherDescriptors,
    FullSocketFails,
    SignalOfTheResultIgnored,
    KilledAlwaysByTerm,
    // Failing closed.
    NumberReadLeniently,
    RefusalWithoutMessage,
    RefusalInTwoLines,
    #[value(name = "refusal-with-status-0")]
    RefusalWithStatus0,
    #[value(name = "refusal-with-status-1")]
    RefusalWithStatus1,
    RefusalRunsAnyway,
    EndOfFileMeansSuccess,
    #[value(name = "end-of-file-means-1")]
    EndOfFileMeans1,
    UnknownActionRuns,
    UnknownActionDenies,
    MalformedResultMeansSuccess,
    ControlCharactersRaw,
    C1ControlCharactersRaw,
    #[value(name = "status-modulo-256")]
    StatusModulo256,
    // Sandboxes and small limits.
    HandshakeBySendtoFirst,
    NeedsManyDescriptors,
    WaitsBySelect,
    HangUpComesFirst,
    NeedsAThread,
    StreamHeldByAHelper,
    // Each of these shows only in one or two cases.
    DescriptorsRepeated,
    EscapedSlashRefused,
    #[value(name = "nesting-of-128-at-most")]
    NestingOf128AtMost,
    InnerMembersCount,
    EveryByteEscaped,
    EncodedSurrogatesKept,
    FileLossy,
    WorkdirLossy,
    UndecodableNamesDropped,
    #[value(name = "reason-cut-at-1-mib")]
    ReasonCutAt1Mib,
    ArraysReadAsMessages,
    DenialsOfAnyShape,
    ExitCodeReadFromText,
    FractionsCutOff,
    LateDecisionRuns,
    EmptyFramesSkipped,
    SingleQuotesAccepted,
    UndecodableRepliesMended,
    PaddingCutOff,
    ReplyDescriptorsHeld,
    SixteenReplyDescriptorsClosed,
    AsksAgain,
    SaysThatItWaits,
    InterruptionsEndTheWait,
    RunSearchesPathFirst,
    RealTimeSignalsReset,
    LibrarySignalsUnblocked,
    PendingSignalsTaken,
    FlagsChangedWhileItWaits,
    AppendTakenOff,
    StandardInputReadAhead,
    HighDescriptorsClosed,
    SocketDuplicated,
    StreamsOpenedAgain,
    TerminalGivenUp,
    StackLimitLowered,
    CheckedBeforeAsking,
    MissingFileNotNamed,
    MissingInTwoLines,
    #[value(name = "only-forbidden-gives-126")]
    OnlyForbiddenGives126,
    BareScriptsSpawned,
    BinariesByShell,
    OnlyElfIsBinary,
    BinariesWithoutMessage,
    BareScriptsAsOptions,
    EmptyScriptsRefused,
    MessagesGoToStandardOutput,
    DuplicatesLeftOut,
    TerminalsReplaced,
    HighNumbersNotSent,
    FifteenAtMost,
    SeventeenSent,
    SignalsBeforeTheDescriptorsLost,
    OnlyTheFirstSignal,
    SignalsSentTwice,
    StopsWithoutBeingTold,
    SignalsWaitForAWholeFrame,
    BlocksOnAFullStream,
    StopsOnlyOnce,
    SignalsWhileStoppedLost,
    GivesUpWhenFull,
    SpinsOnAFullSocket,
    SocketMadeBlockingForTheWait,
    KilledExitsForRealTimeSignals,
    KilledOnlyWhereDefault,
    KilledOnlyWhereUnblocked,
    CoreOfItsOwn,
    AnyNumberIsRaised,
    #[value(name = "status-over-128-kills")]
    StatusOver128Kills,
    #[value(name = "large-codes-modulo-256")]
    LargeCodesModulo256,
    #[value(name = "reason-cut-at-64-kib")]
    ReasonCutAt64Kib,
    NewlinesEscaped,
    BackslashesDoubled,
    LogUnderDebugVariables,
    DeleteRaw,
    CarriageReturnRaw,
    ControlCharactersDropped,
    NumberTrimmed,
    PlusSignAccepted,
    NumberWraps,
    VariableNotNamed,
    HandshakeByWrite,
    FilesLookedAt,
    MissingPeerAwaited,
    DiesOfSigpipe,
    TraceUnderBacktrace,
    PanicsWithoutStandardError,
    SocketOptionReadFirst,
    ShutdownBeforeRun,
    NeedsAThreadForSignals,
    HelperHoldsTheStream,
    CaughtSignalsExit,
    // What the kernel keeps of a process, and what a working directory is called.
    WorkdirFromValidPwd,
    SoftDescriptorLimitRaised,
    SoftCoreLimitLowered,
    ParentDeathSignalLeft,
    ParentDeathSignalCleared,
    BoundingSetEmptied,
    OneProcessorOnly,
    BatchScheduling,
    TimerSlackRaised,
    OutOfMemoryScoreRaised,
    AlarmLeft,
    // One call without a loop, moments in which signals are lost, and patience that ends.
    RequestSentAtOnce,
    MessagesWrittenAtOnce,
    MessagesDroppedWhenFull,
    SignalsLostAfterEscalate,
    BurstsLost,
    SignalsDroppedWhenFull,
    #[value(name = "signals-over-4-kib-dropped")]
    SignalsOver4KibDropped,
    ResultLostBehindASignal,
    TextsEndAtNul,
    GivesUpAfterSeconds,
    NestingOverflowsTheStack,
    DecisionLengthBelieved,
}

/// What this wrapper does in a way of its own that is right, too. Its name is the variant's after `variant-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// The older level: neither signals nor umask nor bytes that are not UTF-8.
    CoreOnly,
    /// Requests are pretty-printed.
    PrettyJson,
    /// The members of a request come in another order.
    OtherOrder,
    /// Characters outside ASCII are escaped.
    EscapedNonAscii,
    /// Messages have members that the protocol does not know.
    ExtraMember,
    /// The length of a frame is a write of its own.
    LengthFirst,
    /// Each byte is a write of its own.
    ByteByByte,
    /// Strings that are not UTF-8 are refused.
    NoBytes,
    /// Frames of up to 1 GiB are accepted.
    LimitOfOneGibibyte,
    /// A reply with descriptors is refused.
    UnexpectedDescriptorsRefused,
    /// A full escalation socket is waited for by poll(2).
    WaitsForPollout,
    /// The request is sent after a delay.
    SlowStart,
    /// Descriptors are listed from the highest to the lowest.
    DescendingNumbers,
    /// Of more than 16 descriptors the first 16 are sent.
    FirstSixteen,
    /// A descriptor that has been handed over is replaced by /dev/null.
    NullInPlace,
    /// Every signal frame has the number of the stopped messages.
    CountsWithEverySignal,
    /// Every signal frame says whether the signal comes of a terminal.
    SaysWhatIsNotOfATerminal,
    /// Where no signal was ignored at the start, nothing is said of it.
    IgnoredLeftOut,
    /// For the signals that C libraries keep for themselves the wrapper exits, as a program with threads does.
    LibrarySignalsExit,
    /// The wrapper stops itself by the signal that stopped the child.
    StopsByTheSameSignal,
    /// The command's environment is sorted.
    SortedEnvironment,
    /// A script without its interpreter gives 126.
    #[value(name = "interpreter-missing-126")]
    InterpreterMissing126,
    /// Control characters in a reason are shown as U+FFFD.
    ControlAsPictures,
    /// Both ends of the request stream are non-blocking, as an event loop makes them.
    NonblockingStreams,
    /// Every character of every string is escaped, names of members and variables included.
    EverythingEscaped,
    /// A FILE below a plain file gives 126, as in bash.
    #[value(name = "below-a-file-126")]
    BelowAFile126,
}

/// Wrappers that ask no policy. Its name is the variant's after `null-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Null {
    /// Executes everything.
    AlwaysRuns,
    /// Waits for ever.
    NeverAnswers,
}

/// What is switched on: nothing of it in a right wrapper.
#[derive(Debug, Default)]
struct Switches {
    faults: Vec<Fault>,
    variants: Vec<Variant>,
    nulls: Vec<Null>,
}

static CHOSEN: OnceLock<Switches> = OnceLock::new();

/// Chooses for the life of the process, from `argv[0]`: names separated by `+` after the first `--` of its file name.
///
/// The error is the name that is unknown.
pub fn choose(argv0: &[u8]) -> Result<(), String> {
    let path = String::from_utf8_lossy(argv0);
    let file_name = path.rsplit('/').next().unwrap_or_default();
    let names = file_name.split_once("--").map_or("", |(_, names)| names);
    let mut switches = Switches::default();
    for name in names.split('+').filter(|name| !name.is_empty()) {
        switches.add(name)?;
    }
    CHOSEN.get_or_init(|| switches);
    Ok(())
}

impl Switches {
    fn add(&mut self, name: &str) -> Result<(), String> {
        if let Ok(fault) = Fault::from_str(name, false) {
            self.faults.push(fault);
            return Ok(());
        }
        if let Some(Ok(variant)) = name
            .strip_prefix("variant-")
            .map(|name| Variant::from_str(name, false))
        {
            self.variants.push(variant);
            return Ok(());
        }
        if let Some(Ok(null)) = name.strip_prefix("null-").map(|name| Null::from_str(name, false)) {
            self.nulls.push(null);
            return Ok(());
        }
        Err(name.to_owned())
    }
}

/// Whether this is to go wrong.
pub fn broken(fault: Fault) -> bool {
    CHOSEN.get().is_some_and(|chosen| chosen.faults.contains(&fault))
}

/// Whether this is to be done in another way.
pub fn unusual(variant: Variant) -> bool {
    CHOSEN
        .get()
        .is_some_and(|chosen| chosen.variants.contains(&variant))
}

/// Whether the wrapper is to be of this kind.
pub fn is_null(null: Null) -> bool {
    CHOSEN.get().is_some_and(|chosen| chosen.nulls.contains(&null))
}
