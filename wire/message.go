package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
)

// Message states something about the cluster in a form for programs: a code and its arguments. [Codes] lists the codes;
// docs/codes.md explains each.
type Message struct {
	Code string `json:"code"`
	Args Args   `json:"args,omitempty"`
}

// Args are the arguments of a message, by name. A value is a uint64, a string, a []string, a []chain.Range or a
// Message.
type Args map[string]any

// MaxMessageRanges bounds the ranges of a message. A message about more ranges has the first of them.
const MaxMessageRanges = 32

// Known reports whether this program knows the code of the message.
func (m Message) Known() bool {
	_, known := codeOf(m.Code)
	return known
}

// IsZero reports whether there is no message.
func (m Message) IsZero() bool { return m.Code == "" }

// UnmarshalJSON reads arguments. The error names an argument that has none of the types.
func (a *Args) UnmarshalJSON(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*a = make(Args, len(raw))
	for name, value := range raw {
		var err error
		if (*a)[name], err = argument(value); err != nil {
			return fmt.Errorf("argument %q: %w", name, err)
		}
	}
	return nil
}

func argument(value json.RawMessage) (any, error) {
	switch {
	case value[0] == '"':
		return decoded[string](value)
	case value[0] == '{':
		return decoded[Message](value)
	case bytes.HasPrefix(value, []byte(`["`)):
		return decoded[[]string](value)
	case value[0] == '[':
		return decoded[[]chain.Range](value)
	}
	return decoded[uint64](value)
}

func decoded[T any](value json.RawMessage) (v T, err error) {
	err = json.Unmarshal(value, &v)
	return v, err
}

// Text is the message in English, "" where there is none. Of a code that this program does not know it shows code and
// detail.
func (m Message) Text() string {
	if m.IsZero() {
		return ""
	}
	c, known := codeOf(m.Code)
	if !known {
		return strings.TrimSuffix(m.Code+": "+argText(m.Args["detail"]), ": ")
	}
	var b strings.Builder
	for rest := c.English; rest != ""; {
		before, hole, _ := strings.Cut(rest, "{")
		hole, rest, _ = strings.Cut(hole, "}")
		name, words, plural := strings.Cut(hole, "|")
		one, many, _ := strings.Cut(words, "|")
		b.WriteString(before)
		switch text := argText(m.Args[name]); {
		case !plural:
			b.WriteString(text)
		case text == "1":
			b.WriteString(one)
		default:
			b.WriteString(many)
		}
	}
	return b.String()
}

func argText(value any) string {
	switch v := value.(type) {
	case uint64:
		return strconv.FormatUint(v, 10)
	case string:
		return v
	case []string:
		return strings.Join(v, ", ")
	case []chain.Range:
		return RangesText(v)
	case Message:
		return v.Text()
	}
	return ""
}

// RangesText names blocks: "4, 7 to 9". It shows the first six ranges.
func RangesText(list []chain.Range) string {
	const most = 6
	var parts []string
	for i, r := range list {
		switch {
		case i == most:
			return strings.Join(parts, ", ") + fmt.Sprintf(", and %d more ranges", len(list)-most)
		case r.Len() == 1:
			parts = append(parts, strconv.FormatUint(r.From, 10))
		default:
			parts = append(parts, fmt.Sprintf("%d to %d", r.From, r.To-1))
		}
	}
	return strings.Join(parts, ", ")
}

// Texts are the messages in English.
func Texts(list []Message) []string {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = list[i].Text()
	}
	return texts
}
