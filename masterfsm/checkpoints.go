package masterfsm

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Log is the identity under which the group signs its checkpoints.
type Log struct {
	// name of the log and of its keys, "" until the first key is founded; fixed from then on
	Origin string   `json:"origin"`
	Keys   []LogKey `json:"keys"` // the oldest first; never changed in place
	// Closed are the logs that this one continues, the oldest first; never changed in place.
	Closed []ClosedLog `json:"closed,omitempty"`
}

// LogKey is an Ed25519 key of the log.
type LogKey struct {
	ID     string     `json:"id"`     // 8 hex digits: the key's hash in a signed note (C2SP signed-note)
	Public chain.Hash `json:"public"` // the public key's 32 bytes
	// Sealed is the private key under a secret that the table does not have: SealedLogKey bytes, none once the key is
	// retired.
	Sealed  []byte `json:"sealed,omitempty"`
	Since   uint64 `json:"since"`             // unix milliseconds
	Retired uint64 `json:"retired,omitempty"` // when it stopped signing, unix milliseconds; 0 while it signs
}

// Limits of the log's identity.
const (
	MaxOrigin    = 255          // bytes
	MaxLogKeys   = 8            // keys that sign at a time
	SealedLogKey = 12 + 32 + 16 // bytes: nonce, seed and tag of AES-256-GCM
	// keys that the log ever has: the table keeps the retired ones, so that none of them signs again
	maxKnownKeys = 1024
)

// CheckNoteName reports why a text cannot name keys of signed notes, and with them a log, whose origin it is, or a
// witness (C2SP signed-note, tlog-checkpoint). The error wraps [ErrBadCommand].
func CheckNoteName(name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	switch {
	case name == "" || len(name) > MaxOrigin:
		return fmt.Errorf("%w: the name of a log or a witness has 1 to %d bytes", ErrBadCommand, MaxOrigin)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, bad):
		return fmt.Errorf("%w: the name of a log or a witness is UTF-8 without spaces, control characters and '+', "+
			"such as example.com/log: %q is not", ErrBadCommand, name)
	}
	return nil
}

// Signs reports whether the key signs checkpoints.
func (k *LogKey) Signs() bool { return k.Retired == 0 }

// VerifierKey is a key of the log in the form for verifiers (C2SP signed-note, "vkey").
func (l Log) VerifierKey(k *LogKey) string {
	vkey, err := note.NewEd25519VerifierKey(l.Origin, ed25519.PublicKey(k.Public[:]))
	if err != nil {
		panic(fmt.Sprintf("masterfsm: key %s: %v", k.ID, err)) // 32 bytes are a key: cannot happen
	}
	return vkey
}

// keyID is the id of a key under the name of a log.
func keyID(origin string, public chain.Hash) string {
	// A vkey is name+id+key, and the key may hold a plus.
	return strings.SplitN(Log{Origin: origin}.VerifierKey(&LogKey{Public: public}), "+", 3)[1]
}

// Known is the key with a public part.
func (l Log) Known(public chain.Hash) (LogKey, bool) {
	return find(l.Keys, func(k *LogKey) bool { return k.Public == public })
}

// Signing are the keys that sign.
func (l Log) Signing() []LogKey {
	return slices.DeleteFunc(slices.Clone(l.Keys), func(k LogKey) bool { return !k.Signs() })
}

// AddLogKey adds a key that signs to the log, or replaces the sealed part of one. The first key fixes the origin. It is
// refused with [ErrStale] if the key is retired, or if First is set and the log has a key. The result is the [LogKey].
type AddLogKey struct {
	Origin string     `json:"origin"`
	Public chain.Hash `json:"public"`
	Sealed []byte     `json:"sealed"`
	First  bool       `json:"first,omitempty"`
	Time   uint64     `json:"time"`
}

// RetireLogKey retires a key: it stops signing, and the table drops its private part. Earlier log entries and snapshots
// keep that part, sealed, until they are dropped. The last key that signs is refused with [wire.ErrLastKey].
type RetireLogKey struct {
	ID   string `json:"id"`
	Time uint64 `json:"time"`
}

func (c *AddLogKey) apply(s *State) (any, error) {
	if err := CheckNoteName(c.Origin); err != nil {
		return nil, err
	}
	k := LogKey{Public: c.Public, Sealed: c.Sealed, Since: s.timeOf(c.Time)}
	if len(c.Sealed) != SealedLogKey || c.Public.IsZero() {
		return nil, fmt.Errorf("%w: a log key has a public part and %d sealed bytes, %d came", ErrBadCommand,
			SealedLogKey, len(c.Sealed))
	}
	k.ID = keyID(c.Origin, c.Public)
	at := slices.IndexFunc(s.log.Keys, func(o LogKey) bool { return o.ID == k.ID })
	switch {
	case c.First && len(s.log.Keys) > 0:
		return nil, fmt.Errorf("%w: the log has a key already", ErrStale)
	case !c.First && len(s.log.Keys) == 0:
		return nil, fmt.Errorf("%w: the log has no first key yet", ErrStale)
	case !c.First && c.Origin != s.log.Origin:
		return nil, fmt.Errorf("%w: the log's origin stays %q, the key is one of %q", ErrBadCommand, s.log.Origin,
			c.Origin)
	case c.First && s.log.closedOrigin(c.Origin):
		return nil, fmt.Errorf("%w: the log %q is closed: give another --origin", ErrStale, c.Origin)
	case s.log.closedKey(c.Public):
		return nil, fmt.Errorf("%w: the key signed for a log that is closed: make another", ErrStale)
	case at >= 0 && s.log.Keys[at].Public != k.Public:
		return nil, fmt.Errorf("%w: another key of the log has the id %s: make another", ErrBadCommand, k.ID)
	case at >= 0 && !s.log.Keys[at].Signs():
		return nil, fmt.Errorf("%w: the key %s is retired", ErrStale, k.ID)
	case at < 0 && len(s.log.Signing()) >= MaxLogKeys:
		return nil, fmt.Errorf("%w: %d keys sign already: retire one first", wire.ErrTooMany, MaxLogKeys)
	case at < 0 && len(s.log.Keys) >= maxKnownKeys:
		return nil, fmt.Errorf("%w: the log has had %d keys and takes no more: stay with those that sign",
			wire.ErrTooMany, maxKnownKeys)
	}
	s.tick(c.Time)
	keys := slices.Clone(s.log.Keys)
	if at >= 0 {
		k.Since = keys[at].Since
		keys[at] = k
	} else {
		keys = append(keys, k)
	}
	s.log = Log{Origin: c.Origin, Keys: keys, Closed: s.log.Closed}
	s.advanceCheckpoint() // which waited for the first key
	s.publish()
	return &k, nil
}

func (c *RetireLogKey) apply(s *State) (any, error) {
	at := slices.IndexFunc(s.log.Keys, func(k LogKey) bool { return k.ID == c.ID })
	switch {
	case at < 0:
		return nil, fmt.Errorf("%w: the log has no key %q", ErrUnknownLogKey, c.ID)
	case !s.log.Keys[at].Signs():
		return nil, nil // it was asked for twice
	case len(s.log.Signing()) == 1:
		return nil, fmt.Errorf("%w: %s; add its successor first", wire.ErrLastKey, c.ID)
	}
	s.tick(c.Time)
	keys := slices.Clone(s.log.Keys)
	keys[at].Retired, keys[at].Sealed = max(s.now, 1), nil
	s.log.Keys = keys
	return nil, nil
}

// Log is the identity under which the group signs. What it holds may be kept, and must not be changed.
func (s *State) Log() Log { return s.log }

// Cosignature is what a witness signed of a checkpoint.
type Cosignature struct {
	Witness string `json:"witness"` // the name in its key
	Line    string `json:"line"`    // the signature line of a note, without its newline (C2SP tlog-cosignature)
}

// Cosigned is a checkpoint with the cosignatures that the table has for it, by witness. It is never changed in place.
type Cosigned struct {
	Boundary     Boundary      `json:"boundary"`
	Cosignatures []Cosignature `json:"cosignatures"`
}

func (c *Cosigned) size() uint64 { return c.Boundary.Size }

// Limits of cosignatures.
const (
	MaxWitnesses       = 32
	maxCosignatureLine = 8 << 10 // bytes: one of ML-DSA-44 takes 3,300
	maxCosigned        = 16      // checkpoints that are not published yet
)

// Cosign adds cosignatures to the checkpoint of a size. It is refused with [ErrStale] where they would never be shown:
// a newer one is published and has cosignatures, or there was no such checkpoint.
type Cosign struct {
	// Origin is that of the checkpoint that the witnesses signed, "" from masters of a level below [LevelClosing]. It
	// is refused with [ErrStale] if that log is closed.
	Origin       string        `json:"origin,omitempty"`
	Size         uint64        `json:"size"`
	Root         chain.Hash    `json:"root"`
	Cosignatures []Cosignature `json:"cosignatures"`
	Time         uint64        `json:"time"`
}

func (c *Cosign) apply(s *State) (any, error) {
	if len(c.Cosignatures) == 0 || len(c.Cosignatures) > MaxWitnesses {
		return nil, fmt.Errorf("%w: %d cosignatures, 1 to %d are taken", ErrBadCommand, len(c.Cosignatures),
			MaxWitnesses)
	}
	for i := range c.Cosignatures {
		if err := c.Cosignatures[i].check(); err != nil {
			return nil, err
		}
	}
	if c.Origin != "" && c.Origin != s.log.Origin {
		return nil, fmt.Errorf("%w: witnesses have signed for %q, the log is %q now", ErrStale, c.Origin, s.log.Origin)
	}
	at, known := search(s.cosigned, c.Size, (*Cosigned).size)
	b, ok := s.signedBoundary(c.Size)
	if !ok {
		return nil, fmt.Errorf("%w: no checkpoint of %d leaves waits for cosignatures", ErrStale, c.Size)
	}
	of := Cosigned{Boundary: b}
	if known {
		of = s.cosigned[at]
	}
	if of.Boundary.Root != c.Root {
		return nil, fmt.Errorf("%w: the checkpoint of %d leaves has another root than was cosigned", ErrBadCommand,
			c.Size)
	}
	for _, new := range c.Cosignatures {
		of.Cosignatures = put(of.Cosignatures, new, func(o *Cosignature) string { return o.Witness })
	}
	if len(of.Cosignatures) > MaxWitnesses {
		return nil, fmt.Errorf("%w: the checkpoint would have more than %d cosignatures", wire.ErrTooMany, MaxWitnesses)
	}
	s.tick(c.Time)
	s.cosigned = put(s.cosigned, of, (*Cosigned).size)
	s.evict(at)
	s.publish()
	return nil, nil
}

// evict forgets a checkpoint that waits for cosignatures where there are too many: the one that has the fewest, the
// oldest among equals, but not the one at a place, which has just got some.
func (s *State) evict(but int) {
	first := slices.IndexFunc(s.cosigned, func(c Cosigned) bool { return c.Boundary.Size > s.published.Size })
	if first < 0 || len(s.cosigned)-first <= maxCosigned {
		return
	}
	victim := -1
	for i := first; i < len(s.cosigned); i++ {
		if i != but && (victim < 0 || len(s.cosigned[i].Cosignatures) < len(s.cosigned[victim].Cosignatures)) {
			victim = i
		}
	}
	s.cosigned = slices.Delete(s.cosigned, victim, victim+1)
}

// check reports what is wrong with a cosignature's form; the leader has checked the signature.
func (c *Cosignature) check() error {
	signature, ok := strings.CutPrefix(c.Line, "— "+c.Witness+" ")
	raw, err := base64.StdEncoding.DecodeString(signature)
	if CheckNoteName(c.Witness) != nil || !ok || err != nil || len(raw) < 5 || len(c.Line) > maxCosignatureLine ||
		strings.ContainsAny(c.Line, "\r\n") {
		return fmt.Errorf("%w: a cosignature is one signature line of its witness, of at most %d bytes", ErrBadCommand,
			maxCosignatureLine)
	}
	return nil
}

// signedBoundary is the boundary of a tree size that may be, or become, the published one, or the newest witnessed one.
func (s *State) signedBoundary(size uint64) (Boundary, bool) {
	if i := s.witnessed(); i >= 0 && size < s.cosigned[i].Boundary.Size || size > s.checkpoint.Size {
		return Boundary{}, false
	}
	for _, b := range []Boundary{s.published, s.checkpoint} {
		if b.Size == size {
			return b, true
		}
	}
	if c, ok := find(s.cosigned, func(c *Cosigned) bool { return c.Boundary.Size == size }); ok {
		return c.Boundary, true
	}
	return find(s.boundaries, func(b *Boundary) bool { return b.Size == size })
}

// publish moves the published checkpoint, never backwards, to the newest that the policy allows, and forgets what is
// older than the newest witnessed one.
func (s *State) publish() {
	next := s.published
	if s.settings.WitnessQuorum == 0 {
		next = s.checkpoint
	}
	for _, c := range s.cosigned {
		if len(c.Cosignatures) >= int(s.settings.WitnessQuorum) && c.Boundary.Size > next.Size {
			next = c.Boundary
		}
	}
	if next.Size > s.published.Size {
		s.published = next
	}
	if i := s.witnessed(); i > 0 {
		s.cosigned = s.cosigned[i:]
	}
}

// witnessed is the place of the newest checkpoint with cosignatures that is not newer than the published one, -1 where
// there is none.
func (s *State) witnessed() int { return atMost(s.cosigned, s.published.Size, (*Cosigned).size) }

// Witnessed is the newest checkpoint with cosignatures that may be shown: the published one, or, where that has none
// yet, one before it. Where witnesses have signed none so far it is the published one.
func (s *State) Witnessed() Cosigned {
	if i := s.witnessed(); i >= 0 {
		return s.cosigned[i]
	}
	return s.Published()
}

// Published is the checkpoint that the masters show, with its cosignatures: the newest that is stored and, when it was
// published, had those of as many witnesses as the settings asked for. It never goes back: when the quorum rises, it
// stays until a newer checkpoint has enough.
func (s *State) Published() Cosigned {
	if i, ok := search(s.cosigned, s.published.Size, (*Cosigned).size); ok {
		return s.cosigned[i]
	}
	return Cosigned{Boundary: s.published}
}

// Cosigned are the newest witnessed checkpoint and those after it that have cosignatures and may yet be published, the
// oldest first. They may be kept, and must not be changed.
func (s *State) Cosigned() []Cosigned { return s.cosigned }

// ClosedLog is the log of a former origin. Signatures of its keys say nothing about a tree of more leaves than Size.
type ClosedLog struct {
	Origin string     `json:"origin"`
	Keys   []LogKey   `json:"keys"`   // all retired
	Size   uint64     `json:"size"`   // leaves of its last trusted tree; 0 if this log does not continue it
	Root   chain.Hash `json:"root"`   // of that tree
	Reason string     `json:"reason"` // one line
	Closed uint64     `json:"closed"` // unix milliseconds
}

// maxClosedLogs bounds the logs that one continues.
const maxClosedLogs = 64

// CloseLog ends the log under its origin and its keys, as after the theft of a private key, and continues the same tree
// under another origin with another key. All keys are retired, and cosignatures, which name the former origin, are
// dropped. Size and Root are of the last tree for which signatures of the former keys are to be trusted: not more than
// the published one. The leader has checked the root. The result is the new [LogKey]. Known from protocol level 7 on.
type CloseLog struct {
	From   string     `json:"from"` // the origin that is closed
	Size   uint64     `json:"size"`
	Root   chain.Hash `json:"root"`
	Reason string     `json:"reason"`
	Origin string     `json:"origin"` // of the log that continues
	Public chain.Hash `json:"public"` // its key
	Sealed []byte     `json:"sealed"`
	Time   uint64     `json:"time"`
}

func (c *CloseLog) apply(s *State) (any, error) {
	if err := c.check(s); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	closed := ClosedLog{Origin: s.log.Origin, Size: c.Size, Root: c.Root, Reason: c.Reason, Closed: max(s.now, 1)}
	for _, k := range s.log.Keys {
		k.Sealed = nil
		if k.Signs() {
			k.Retired = closed.Closed
		}
		closed.Keys = append(closed.Keys, k)
	}
	k := LogKey{Public: c.Public, Sealed: c.Sealed, Since: s.now}
	k.ID = strings.SplitN(Log{Origin: c.Origin}.VerifierKey(&k), "+", 3)[1] // NAME+ID+KEY
	s.log = Log{Origin: c.Origin, Keys: []LogKey{k}, Closed: append(slices.Clone(s.log.Closed), closed)}
	s.cosigned = nil
	return &k, nil
}

// check reports why the log cannot be closed.
func (c *CloseLog) check(s *State) error {
	if err := CheckNoteName(c.Origin); err != nil {
		return err
	}
	_, known := s.log.Known(c.Public)
	switch {
	case s.level < LevelClosing:
		return fmt.Errorf("%w: logs can be closed from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelClosing, s.level)
	case len(s.log.Keys) == 0 || c.From != s.log.Origin:
		return fmt.Errorf("%w: the log is %q, not %q", ErrStale, s.log.Origin, c.From)
	case c.Origin == c.From || s.log.closedOrigin(c.Origin):
		return fmt.Errorf("%w: %q is, or was, the name of this log: choose another", wire.ErrNameTaken, c.Origin)
	case len(c.Sealed) != SealedLogKey || c.Public.IsZero() || known || s.log.closedKey(c.Public):
		return fmt.Errorf("%w: the log continues with a new key of %d sealed bytes", ErrBadCommand, SealedLogKey)
	case c.Size == 0 || c.Size > s.published.Size:
		return fmt.Errorf("%w: the last trusted tree has %d leaves, 1 to %d are published", ErrBadCommand, c.Size,
			s.published.Size)
	case len(s.log.Closed) >= maxClosedLogs:
		return fmt.Errorf("%w: the log was closed %d times already", wire.ErrTooMany, maxClosedLogs)
	}
	if err := wire.CheckClosingReason(c.Reason); err != nil {
		return fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	return nil
}

// closedOrigin reports whether an origin is that of a closed log.
func (l Log) closedOrigin(origin string) bool {
	_, closed := find(l.Closed, func(o *ClosedLog) bool { return o.Origin == origin })
	return closed
}

// closedKey reports whether a public key signed for a log that is closed.
func (l Log) closedKey(public chain.Hash) bool {
	return slices.ContainsFunc(l.Closed, func(o ClosedLog) bool {
		return slices.ContainsFunc(o.Keys, func(k LogKey) bool { return k.Public == public })
	})
}

// aboutLogs has the name of the log and the keys that sign it, and the last one that was closed.
func aboutLogs(*State, Command) subject {
	ids := func(keys []LogKey, wanted func(*LogKey) bool) string {
		var list []string
		for i := range keys {
			if wanted(&keys[i]) {
				list = append(list, keys[i].ID)
			}
		}
		return strings.Join(list, ",")
	}
	return ofGroup(func(s *State) []trail.Value {
		values := pairs("log", s.log.Origin, "key", ids(s.log.Keys, (*LogKey).Signs))
		if n := len(s.log.Closed); n > 0 {
			last := &s.log.Closed[n-1]
			values = append(values, pairs("closed-log", last.Origin, "size", last.Size,
				"root", hex.EncodeToString(last.Root[:]), "reason", last.Reason,
				"retired-keys", ids(last.Keys, func(*LogKey) bool { return true }))...)
		}
		return values
	})
}

// newKeyID is the id of a key that is to be added, "" if the log would refuse it.
func newKeyID(c *AddLogKey) string {
	if CheckNoteName(c.Origin) != nil {
		return ""
	}
	return keyID(c.Origin, c.Public)
}

// aboutLogKey has a digest of the sealed part, which is no secret, so that it differs when a key is sealed again.
func aboutLogKey(id string) subject {
	return subject{target: trail.Target{Kind: trail.OfLogKey, ID: id}, values: func(s *State) []trail.Value {
		k, ok := find(s.log.Keys, func(k *LogKey) bool { return k.ID == id })
		if !ok {
			return nil
		}
		values := pairs("origin", s.log.Origin, "signs", k.Signs())
		if k.Signs() {
			sum := sha256.Sum256(k.Sealed)
			values = append(values, pairs("sealed-part-digest", hex.EncodeToString(sum[:4]))...)
		}
		return values
	}}
}
