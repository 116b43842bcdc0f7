package trail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/chainstore/chainstore/internal/fields"
)

// Actor is who caused an act.
type Actor struct {
	Kind ActorKind `json:"kind"`
	ID   uint32    `json:"id,omitempty"`
	Role Role      `json:"role,omitempty"`
	Name string    `json:"name,omitempty"`
}

// Source is where the request came from.
type Source struct {
	Address string `json:"address,omitempty"` // of the client, as the master that took the request saw it
	Member  string `json:"member,omitempty"`  // the id of that master
}

// Origin is who caused an act, and where the request came from.
type Origin struct {
	Actor  Actor
	Source Source
}

// Target is what the act is about.
type Target struct {
	Kind TargetKind `json:"kind"`
	ID   string     `json:"id,omitempty"`
}

// Key is the key of the records about the target, such as project/7. The id in it is cut to fit a record's key.
func (t Target) Key() string {
	if t.ID == "" {
		return t.Kind.String()
	}
	return Cut(t.Kind.String()+"/"+t.ID, maxKey)
}

// Value is a named part of the target before or after the act.
type Value struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Record is the payload of a record of the audit trail.
type Record struct {
	Act     Act     `json:"act"`
	Phase   Phase   `json:"phase"`
	Outcome Outcome `json:"outcome"`
	Intent  uint64  `json:"intent,omitempty"` // of phase Ended: the leaf index of the intent's record
	Actor   Actor   `json:"actor"`
	Source  Source  `json:"source"`
	Target  Target  `json:"target"`
	Before  []Value `json:"before,omitempty"`
	After   []Value `json:"after,omitempty"`
}

// Limits of the parts of a record, in bytes. [Record.AppendTo] cuts what is longer.
const (
	MaxText   = 255  // names, addresses, the id of a member
	maxTarget = 1024 // the id of a target
	maxValue  = 1024 // one value
	maxValues = 2048 // all names and values of a list together
	maxKey    = 255  // chain.MaxKey
)

const (
	magic   = "CSAU"
	version = 1
)

// ErrMalformed: the bytes are no record of the audit trail that this program knows.
var ErrMalformed = errors.New("not a record of the audit trail")

// ellipsis ends a text that was cut.
const ellipsis = "…"

// Cut returns a text of at most n bytes, at least 3: all of it, or its beginning and an ellipsis. It cuts between
// characters.
func Cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	end := n - len(ellipsis)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// AppendTo adds the record's binary form to dst, integers in big endian. It is part of the chain and frozen:
//
//	"CSAU" ‖ version u8 = 1 ‖ act u16 ‖ phase u8 ‖ outcome u8 ‖ intent u64 ‖ actor ‖ source ‖
//	target u8 ‖ len16(id) ‖ id ‖ values ‖ values
//	actor  = kind u8 ‖ id u32 ‖ role u8 ‖ len8(name) ‖ name
//	source = len8(address) ‖ address ‖ len8(member) ‖ member
//	values = count u8 ‖ (len8(name) ‖ name ‖ len16(value) ‖ value) …
func (r *Record) AppendTo(dst []byte) []byte {
	dst = append(append(dst, magic...), version)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Act))
	dst = append(dst, byte(r.Phase), byte(r.Outcome))
	dst = binary.BigEndian.AppendUint64(dst, r.Intent)
	dst = r.Source.AppendTo(r.Actor.AppendTo(dst))
	dst = appendText16(append(dst, byte(r.Target.Kind)), Cut(r.Target.ID, maxTarget))
	return appendValues(appendValues(dst, r.Before), r.After)
}

// AppendTo adds the actor's binary form: see [Record.AppendTo].
func (a *Actor) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, byte(a.Kind)), a.ID)
	return appendText8(append(dst, byte(a.Role)), a.Name)
}

// AppendTo adds the source's binary form: see [Record.AppendTo].
func (s *Source) AppendTo(dst []byte) []byte {
	return appendText8(appendText8(dst, s.Address), s.Member)
}

func appendText8(dst []byte, text string) []byte {
	text = Cut(text, MaxText)
	return append(append(dst, byte(len(text))), text...)
}

func appendText16(dst []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(text))), text...)
}

// leftOut is the name of the last value of a list from which values were left out. It has their number.
const leftOut = "left-out"

// CutValues returns a list of values as it is in a record. Long names and values are cut. If the list is too long all
// the same, its last values are left out, and one that counts them is in their place.
func CutValues(values []Value) []Value {
	list := make([]Value, 0, min(len(values), 255))
	fits, size := 0, 0 // of the values beside which there is room for the count
	for _, v := range values {
		v = Value{Name: Cut(v.Name, MaxText), Value: Cut(v.Value, maxValue)}
		if size += len(v.Name) + len(v.Value); size > maxValues || len(list) == 255 {
			count := strconv.Itoa(len(values) - fits)
			return append(list[:fits], Value{Name: leftOut, Value: count})
		}
		list = append(list, v)
		if size <= maxValues-len(leftOut)-len("1000000") && len(list) < 255 {
			fits = len(list)
		}
	}
	return list
}

// Fit returns how many of the first values of a list, at least one of them, a record has with none left out.
func Fit(values []Value) int {
	size := 0
	for i, v := range values {
		size += min(len(v.Name), MaxText) + min(len(v.Value), maxValue)
		if i > 0 && (size > maxValues || i == 255) {
			return i
		}
	}
	return len(values)
}

// appendValues adds the values of CutValues.
func appendValues(dst []byte, values []Value) []byte {
	list := CutValues(values)
	dst = append(dst, byte(len(list)))
	for _, v := range list {
		dst = appendText16(append(append(dst, byte(len(v.Name))), v.Name...), v.Value)
	}
	return dst
}

// Parse reads the payload of a record of the audit trail. The error wraps [ErrMalformed]. Acts, phases and kinds that
// this program does not know are no error.
func Parse(payload []byte) (Record, error) {
	r := fields.New(payload)
	if head := r.Fixed(len(magic)); string(head) != magic {
		return Record{}, fmt.Errorf("%w: it begins with %q, not %q", ErrMalformed, head, magic)
	}
	if v := r.Uint8(); v != version {
		return Record{}, fmt.Errorf("%w: version %d, this program knows %d: a newer ChainStore may be needed",
			ErrMalformed, v, version)
	}
	rec := Record{
		Act: Act(r.Uint16()), Phase: Phase(r.Uint8()), Outcome: Outcome(r.Uint8()), Intent: r.Uint64(),
		Actor: ParseActor(r), Source: ParseSource(r),
	}
	rec.Target = Target{Kind: TargetKind(r.Uint8()), ID: text16(r)}
	rec.Before, rec.After = parseValues(r), parseValues(r)
	if err := r.End(); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return rec, nil
}

// ParseActor reads an actor.
func ParseActor(r *fields.Reader) Actor {
	return Actor{Kind: ActorKind(r.Uint8()), ID: r.Uint32(), Role: Role(r.Uint8()), Name: r.String8()}
}

// ParseSource reads a source.
func ParseSource(r *fields.Reader) Source { return Source{Address: r.String8(), Member: r.String8()} }

func text16(r *fields.Reader) string { return string(r.Bytes(int(r.Uint16()))) }

func parseValues(r *fields.Reader) (values []Value) {
	for n := r.Uint8(); n > 0 && !r.Failed(); n-- {
		values = append(values, Value{Name: r.String8(), Value: text16(r)})
	}
	return values
}
