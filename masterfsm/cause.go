package masterfsm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Cause is a message in the state or in a command: a cause, or the detail of a finding. Its JSON is a string where the
// code is [wire.CodeText], and an object otherwise. Below protocol level 2 all causes are such strings: see
// [State.cause].
type Cause wire.Message

// TextCause is a cause that is a sentence; there is none where the sentence is empty.
func TextCause(text string) Cause {
	if text == "" {
		return Cause{}
	}
	return Cause{Code: wire.CodeText, Args: wire.Args{"detail": text}}
}

// IsZero reports whether there is no cause.
func (c Cause) IsZero() bool { return c.Code == "" }

// Text is the cause in English.
func (c Cause) Text() string { return wire.Message(c).Text() }

// MarshalJSON writes the cause.
func (c Cause) MarshalJSON() ([]byte, error) {
	if c.IsZero() || c.Code == wire.CodeText {
		return json.Marshal(c.Text())
	}
	return json.Marshal(wire.Message(c))
}

// UnmarshalJSON reads a cause of either form.
func (c *Cause) UnmarshalJSON(data []byte) error {
	if data[0] != '"' {
		return json.Unmarshal(data, (*wire.Message)(c))
	}
	var text string
	err := json.Unmarshal(data, &text)
	*c = TextCause(text)
	return err
}

// cause is a cause in the form that the state has at its protocol level: the sentence of earlier versions below level
// 2, a code from then on.
func (s *State) cause(code string, args wire.Args) Cause {
	if s.level < LevelCodes {
		return TextCause(sentence(code, args))
	}
	return Cause{Code: code, Args: args}
}

// aboutBlocks are the arguments of a cause that names blocks.
func (s *State) aboutBlocks(list []chain.Range) wire.Args {
	if s.level >= LevelCodes && len(list) > wire.MaxMessageRanges {
		list = list[:wire.MaxMessageRanges]
	}
	return wire.Args{"blocks": chain.CountBlocks(list), "ranges": slices.Clone(list)}
}

// damaged is the cause of a node that has bad blocks.
func (s *State) damaged(bad []chain.Range) Cause {
	return s.cause(wire.CodeDamaged, s.aboutBlocks(bad))
}

// failedCheck is the cause of a node that a check has found not to be good.
func (s *State) failedCheck(n *Storage, bad []chain.Range) Cause {
	switch {
	case len(bad) > 0 || s.level < LevelCodes:
		return s.damaged(bad)
	case n.Unchecked > 0:
		return s.cause(wire.CodeUnchecked, wire.Args{"block": n.Unchecked})
	}
	return s.cause(wire.CodeForeignChain, nil)
}

// checkCause refuses a cause in a command that is too long, or is a code before the group has codes.
func (s *State) checkCause(c Cause) error {
	if c.Code != wire.CodeText && !c.IsZero() && s.level < LevelCodes {
		return fmt.Errorf("%w: the cause %q at protocol level %d", ErrBadCommand, c.Code, s.level)
	}
	if c.TooLong() {
		return fmt.Errorf("%w: a cause %.30q that is too long", ErrBadCommand, c.Code)
	}
	return nil
}

// TooLong reports whether commands with the cause are refused because of its size.
func (c Cause) TooLong() bool {
	if c.Code == wire.CodeText {
		return len(c.Text()) > maxText
	}
	args, err := json.Marshal(c.Args)
	return err == nil && len(c.Code)+len(args) > 8*maxText
}

// Finding is one thing that a check found wrong, or that the state itself found.
type Finding struct {
	Block  uint64 `json:"block"`
	What   string `json:"what"` // one of the Wrong… constants of package chain
	Detail Cause  `json:"detail"`
}

// detail is the detail of a finding of the state's own. From level 2 on there is none: code and blocks say it.
func (s *State) detail(format string, args ...any) Cause {
	if s.level >= LevelCodes {
		return Cause{}
	}
	return TextCause(fmt.Sprintf(format, args...))
}

// sentence is the text that versions before protocol level 2 put into the state for a code. Their snapshots must be
// equal to the byte, so it never changes. A person reads [wire.Message.Text].
func sentence(code string, args wire.Args) string {
	switch code {
	case wire.CodeDamaged:
		return "damaged: " + blocksSentence(args)
	case wire.CodeUnchecked:
		return fmt.Sprintf("blocks from %d on could not be checked", args["block"])
	case wire.CodeBehind:
		return fmt.Sprintf("behind: it has %d blocks, the masters hold them from %d on", args["blocks"], args["from"])
	case wire.CodeLeftBehind:
		return "behind: the masters no longer hold the blocks that it lacks"
	case wire.CodeUnknownHeight:
		return fmt.Sprintf("behind: height %d is older than the table remembers", args["height"])
	case wire.CodeOtherChain:
		return fmt.Sprintf("another chain: block %d has another hash", args["block"])
	case wire.CodeAhead:
		return fmt.Sprintf("alarm: it has %d blocks, the masters know of %d", args["blocks"], args["height"])
	case wire.CodeUncleanStop:
		return "its last stop was not a clean one"
	case wire.CodeCheckCutOff:
		return "its check was cut off"
	case wire.CodeRepairFailed:
		failed, _ := args["cause"].(wire.Message)
		return "ended early: " + failed.Text()
	case wire.CodeTilesRewritten:
		return fmt.Sprintf("%d hashes of the tree were wrong on disk and were computed again from the blocks",
			args["count"])
	case wire.CodeBlocksLost:
		return "no storage node has a good copy of " + blocksSentence(args)
	case wire.CodeBlocksFound:
		return "a storage node may have a good copy again of " + blocksSentence(args)
	case wire.CodeLossConfirmed:
		return fmt.Sprintf("a person confirmed that block %d is lost", args["block"])
	case wire.CodeRemoved:
		return "taken out for good"
	}
	return code
}

// blocksSentence names blocks in a sentence.
func blocksSentence(args wire.Args) string {
	const most = 6
	list, _ := args["ranges"].([]chain.Range)
	if len(list) == 0 {
		return "no block"
	}
	var parts []string
	for i, r := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more runs", len(list)-most))
			break
		}
		if r.Len() == 1 {
			parts = append(parts, fmt.Sprint(r.From))
		} else {
			parts = append(parts, fmt.Sprintf("%d to %d", r.From, r.To-1))
		}
	}
	word := "blocks "
	if chain.CountBlocks(list) == 1 {
		word = "block "
	}
	return word + strings.Join(parts, ", ")
}
