package masterfsm

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

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

// Limits of cosignatures.
const (
	MaxWitnesses       = 32
	maxCosignatureLine = 8 << 10 // bytes: one of ML-DSA-44 takes 3,300
	maxCosigned        = 16      // checkpoints that are not published yet
)

// Cosign adds cosignatures to the checkpoint of a size. It is refused with [ErrStale] where nobody would be shown them:
// a newer one is published and has cosignatures, or there was no such checkpoint.
type Cosign struct {
	Size         uint64        `json:"size"`
	Root         chain.Hash    `json:"root"`
	Cosignatures []Cosignature `json:"cosignatures"`
	Time         uint64        `json:"time"`
}

func (*Cosign) kind() kind { return kindCosign }

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
	at, known := slices.BinarySearchFunc(s.cosigned, c.Size,
		func(o Cosigned, size uint64) int { return cmp.Compare(o.Boundary.Size, size) })
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
	of.Cosignatures = slices.Clone(of.Cosignatures)
	for _, new := range c.Cosignatures {
		i, again := slices.BinarySearchFunc(of.Cosignatures, new.Witness,
			func(o Cosignature, name string) int { return strings.Compare(o.Witness, name) })
		if again {
			of.Cosignatures[i] = new
		} else {
			of.Cosignatures = slices.Insert(of.Cosignatures, i, new)
		}
	}
	if len(of.Cosignatures) > MaxWitnesses {
		return nil, fmt.Errorf("%w: the checkpoint would have more than %d cosignatures", wire.ErrTooMany, MaxWitnesses)
	}
	s.tick(c.Time)
	s.cosigned = slices.Clone(s.cosigned)
	if known {
		s.cosigned[at] = of
	} else {
		s.cosigned = slices.Insert(s.cosigned, at, of)
	}
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
	for i := range s.cosigned {
		if b := s.cosigned[i].Boundary; b.Size == size {
			return b, true
		}
	}
	at, ok := slices.BinarySearchFunc(s.boundaries, size, func(b Boundary,
		size uint64) int {
		return cmp.Compare(b.Size, size)
	})
	if !ok {
		return Boundary{}, false
	}
	return s.boundaries[at], true
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
func (s *State) witnessed() int {
	i, exact := slices.BinarySearchFunc(s.cosigned, s.published.Size,
		func(o Cosigned, size uint64) int { return cmp.Compare(o.Boundary.Size, size) })
	if exact {
		return i
	}
	return i - 1
}

// Witnessed is the newest checkpoint with cosignatures that may be shown: the published one, or, where that has none
// yet, one before it. Where witnesses have signed none so far it is the published one all the same.
func (s *State) Witnessed() Cosigned {
	if i := s.witnessed(); i >= 0 {
		return s.cosigned[i]
	}
	return s.Published()
}

// Published is the checkpoint that the masters show, with its cosignatures: the newest that is stored and, when it was
// published, had those of as many witnesses as the settings asked. It never goes back, whatever the settings become:
// one that a higher quorum would not have let through stays until a newer one has enough.
func (s *State) Published() Cosigned {
	for _, c := range s.cosigned {
		if c.Boundary.Size == s.published.Size {
			return c
		}
	}
	return Cosigned{Boundary: s.published}
}

// Cosigned are the newest witnessed checkpoint and those after it that have cosignatures and may yet be published, the
// oldest first. They may be kept, and must not be changed.
func (s *State) Cosigned() []Cosigned { return s.cosigned }
