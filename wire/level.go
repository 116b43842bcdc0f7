package wire

// ProtocolLevel is the highest protocol level that this program knows. Members and workers announce it. Package
// masterfsm says what each level adds.
const ProtocolLevel = 7

// LevelProofs is masterfsm.LevelProofs.
const LevelProofs = 6

// LevelJoining is masterfsm.LevelJoining.
const LevelJoining = 7
