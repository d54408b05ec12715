//! The ways in which this server can be wrong, and the ways in which it can be right but unusual.
//!
//! A new fault is a line in [`Fault`], an `if broken(Fault::…)` at the place where it goes wrong, and an entry in
//! `server-faults.toml`. Its name on the command line is the variant's in kebab case.

use std::sync::OnceLock;

use clap::{Parser, ValueEnum};

/// What this server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    // The wire.
    LengthBigEndian,
    LengthCountsItself,
    NewlineAfterFrame,
    NoLength,
    LongMessagesCut,
    MemberOrderFixed,
    WhiteSpaceRefused,
    EscapesRefused,
    OneReadIsAFrame,
    LengthInOneRead,
    FirstDescriptorsLost,
    Impatient,
    SurplusThrownAway,
    SurplusRefused,
    OneSignalAWrite,
    HandshakeByteCompared,
    LongHandshakeRefused,
    HandshakeAnswered,
    StreamEmptiedFirst,
    NumbersSorted,
    PositionForNumber,
    RoomForEight,
    NullReasonLeftOut,
    ActionInLowerCase,
    ExitCodeAsText,
    GreetingFirst,
    DecisionEarly,
    ResultEarly,
    UnknownMembersRefused,
    UnknownInDescriptorsRefused,
    NamesWithoutCase,
    ShallowNesting,
    ForeignNamesRefused,
    DataAfterIgnored,
    MissingFilledIn,
    CutAtNul,
    RelativeDirectoryTaken,
    MalformedAsked,
    MalformedLeftOpen,
    MalformedEndsSession,
    EmptyFramesSkipped,
    OtherBytesReplaced,
    NonsenseSignalIgnored,
    BytesReplaced,
    BytesReencoded,
    BytesDropped,
    BytesAsLatin1,
    AnySurrogateIsAByte,
    OtherSurrogatesReplaced,
    PolicySeesReplacements,
    LimitOfOneMib,
    SixteenMibTooLong,
    LongDescriptorMessagesRefused,
    AllocatedOnAnnouncement,
    LongPayloadAwaited,
    LongSignalFramesAwaited,
    RequestDescriptorsKept,
    RequestDescriptorsInherited,
    HalfFrameDescriptorsKept,
    MalformedDescriptorsKept,
    SignalDescriptorsKept,
    TruncatedKept,
    // Sessions.
    WholeEnvironment,
    ServerVariables,
    NumberInHexadecimal,
    SocketAmongTheScriptsNumbers,
    NumberPadded,
    WrapperPathResolved,
    WrapperMustExist,
    ShellMustExist,
    ShellOpened,
    WrapperTried,
    SocketClosesOnExec,
    OverlayNamesAnother,
    BaseOverOverlay,
    SocketIsAStream,
    ServerEndInherited,
    AllClientsInherited,
    StreamsInherited,
    ClientHeldTwice,
    ClientKept,
    ClientKeptInOneShots,
    ChildHoldsSocket,
    LastSessionAnswers,
    ClosingClosesAll,
    // The policy.
    ProgramFromArguments,
    ProgramAsGiven,
    DotsKept,
    ServerDirectory,
    PathSearched,
    EmptyArgumentsDropped,
    ArgumentsTrimmed,
    DirectoryResolved,
    MissingNotAsked,
    TildeExpanded,
    DotdotLexical,
    DotdotLexicalEverywhere,
    MagicLinksFollowed,
    PolicyPathExecuted,
    VariablesExpanded,
    // Decisions.
    StreamOpenAfterRun,
    ChildBeforeDescriptors,
    ReasonTrimmed,
    ReasonCut,
    ReasonDropped,
    AskedTwice,
    DecisionRemembered,
    RunExecutes,
    DenyExecutes,
    RequestReadAgain,
    PolicyErrorRuns,
    PolicyErrorEscalates,
    PolicyErrorHangs,
    PolicyErrorEndsSession,
    UnknownAnswerRuns,
    UnknownAnswerEscalates,
    PolicyErrorRemembered,
    // Handshakes and many at once.
    BadHandshakeEndsAll,
    SeveralEndAll,
    FirstOfSeveralServed,
    SeveralKept,
    FewBadOnes,
    OneAtATime,
    OneQuestionAtATime,
    RequestReadByListener,
    EmptyDatagramEndsAll,
    WrongKindEndsAll,
    WrongKindKept,
    BadDatagramsRemembered,
    LimitOfFilesEndsAll,
    GoneWrappersKept,
    RefusedPayloadsKept,
    NestingWithoutLimit,
    StalledReaderBlocks,
    StalledSenderBlocks,
    GarbageEndsSession,
    FortyAtMost,
    AnswersInOrder,
    // The escalated child.
    FileAsFirstArgument,
    ChildInServerDirectory,
    ChildWithoutVariables,
    EmptyVariablesDropped,
    StreamsMerged,
    StreamsReopened,
    ExitCodeSigned,
    ExitCodeOneForAll,
    ChildByPath,
    ArgumentsCut,
    LongVariablesCut,
    ResultAtEndOfTree,
    TwoResults,
    BareScriptsRefused,
    ChildAgesOut,
    SurplusNumbersDropped,
    SurplusDescriptorsDropped,
    LastOfTwoWins,
    NegativeNumbersSkipped,
    NumbersWrapped,
    NumbersUnbounded,
    SixteenOfMore,
    RefusedDescriptorsKept,
    MismatchIsAResult,
    // One-shots.
    LoginNever,
    LoginAlways,
    LoginOptionApart,
    CommandSplit,
    CommandTrimmed,
    OutputsMerged,
    OutputCut,
    OutputsOneByOne,
    OneShotStatusLost,
    OneShotServerVariables,
    OneShotServerDirectory,
    OneShotWithoutOverlay,
    OneShotDeaf,
    OneShotSessionLives,
    OneShotChildrenLive,
    OneShotWaitsForOutput,
    TimeoutIgnored,
    TimeoutNotTold,
    TimeoutKillsShellOnly,
    TimeoutKillsGroupOnly,
    TimeoutPolite,
    TimeoutDropsOutput,
    TimeoutAlways,
    TimeoutWaitsForPolicy,
    // The end of a session.
    RequestsSurviveClose,
    ReadersSurviveClose,
    LateAnswerStarts,
    CloseWaitsForPolicy,
    ChildrenSurviveClose,
    OneChildKilled,
    EndIsPolite,
    ZombiesLeft,
    ListenerSurvivesClose,
    ListenerLingers,
    CancelIgnored,
    CancelSparesRequests,
    CancelSparesChildren,
    CancelSparesListener,
    SecondEndFatal,
    // Escalated children, and what becomes of them.
    VariablesOfTheServer,
    PathAdded,
    MarkedByAVariable,
    OneAfterTheOther,
    SameNumberClosesOnExec,
    HighNumbersLeftOut,
    CopiesInherited,
    NullInherited,
    SigpipeIgnored,
    ChildEndsBlocked,
    GroupOfTheServer,
    SignalAsExitCode,
    SignalNotTold,
    CoreFlagCounted,
    MissingGivesTheOther,
    ForbiddenGivesTheOther,
    SpawnErrorSilent,
    SpawnErrorUnanswered,
    UmaskIgnored,
    UmaskOfTheServer,
    DescriptorsKeptMeanwhile,
    KeeperKeepsDescriptors,
    SignalsToChildOnly,
    OnlyPoliteSignals,
    SignalsIgnored,
    StopsNotReported,
    StopsToldUnasked,
    FirstStopOnly,
    StopsAlwaysByStop,
    GoneWrapperIgnored,
    ClientInheritable,
    ServerEndInheritable,
    LoadersKept,
    OnlyPreloadDropped,
    FunctionsKept,
    LookedUpAgain,
    GroupOnlyKilled,
    SessionLeadersSpared,
    TreesSurviveServer,
    DescriptorPerChild,
    LeakOnSpawnError,
    MemoryPerRequest,
    DescriptorPerSession,
}

/// What this server does rightly in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// Messages are pretty-printed, with white space around them.
    Pretty,
    /// Non-ASCII characters are escaped, and so are some others.
    Escaped,
    /// Each byte is a write of its own.
    Bytewise,
    /// Messages have members that nobody knows, before and after the ones that count.
    ExtraMembers,
    /// The overlay has the older name too.
    OlderName,
    /// The start takes its time.
    SlowStart,
    /// Standard error gets a line for everything.
    Chatty,
    /// JSON-RPC answers are given out of order.
    OutOfOrder,
    /// None of the extensions.
    Plain,
}

/// Command line of the broken server.
#[derive(Parser, Debug, Default)]
#[command(about = "A server of shell escalation with its shim, broken in the ways that it is told")]
pub struct Options {
    /// What to do wrong; repeatable
    #[arg(long = "fault", value_name = "NAME")]
    pub faults: Vec<Fault>,
    /// What to do rightly in another way; repeatable
    #[arg(long = "variant", value_name = "NAME")]
    pub variants: Vec<Variant>,
}

static CHOSEN: OnceLock<Options> = OnceLock::new();

/// Chooses for the life of the process.
pub fn choose(options: Options) {
    CHOSEN.get_or_init(|| options);
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

/// A line on standard error, of a chatty server.
pub fn chat(text: impl std::fmt::Display) {
    if unusual(Variant::Chatty) {
        eprintln!("faulty-shim: {text}");
    }
}
