package masterfsm

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"math"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fields"
)

// Submission is what one master gathered from its clients and hands to the leader whole. Member, boot and sequence name
// it, so that it is recognised when it is sent again. Its bytes are made once, by the master that received the records.
//
//	crc u32 ‖ kind u8 ‖ boot u64 ‖ seq u64 ‖ member length u8 ‖ member ‖ requests u32 ‖ request …
//	request = project u32 ‖ key[16] ‖ body[16] ‖ count u32 ‖ (commit[32] ‖ record) × count
//
// A submission with parts of streams is of another kind. Each of its requests has stream[16] ‖ first u64 ‖ token u32 ‖
// flags u8 before the count: the digest of the stream's id, zero for none, and the rest of [Part]. One with the flag
// [PartHasID] has id length u8 ‖ id after its flags. See [NewStreamSubmission].
//
// A record has the form of [chain.Record.AppendTo], its time still zero. key is the digest of the idempotency key, zero
// where there is none; body that of the content. The leader puts the submissions that arrive together into one command,
// see [EncodeAppend].
type Submission struct {
	data     []byte
	streams  bool // its requests have a stream
	requests uint32
	countAt  int // offset of the current request's count
	fieldAt  int // offset of the number of requests
}

// Digest names an idempotency key within its project, or a request's content: the first half of a SHA-256.
type Digest [16]byte

// NewSubmission starts a submission of a member (at most 255 bytes), its boot number and its sequence number in that
// boot. buf is used as the space for its bytes.
func NewSubmission(buf []byte, member string, boot, seq uint64) *Submission {
	return newSubmission(buf, kindSubmission, member, boot, seq)
}

// NewStreamSubmission is NewSubmission for requests of which some are parts of streams. Known from protocol level 4 on.
func NewStreamSubmission(buf []byte, member string, boot, seq uint64) *Submission {
	return newSubmission(buf, kindStreamSubmission, member, boot, seq)
}

func newSubmission(buf []byte, k kind, member string, boot, seq uint64) *Submission {
	data := append(buf[:0], 0, 0, 0, 0, byte(k))
	data = binary.BigEndian.AppendUint64(data, boot)
	data = binary.BigEndian.AppendUint64(data, seq)
	data = append(append(data, byte(len(member))), member...)
	return &Submission{
		data: binary.BigEndian.AppendUint32(data, 0), fieldAt: len(data), streams: k == kindStreamSubmission,
	}
}

// StartRequest begins the next request: the records of one client call, appended all or none.
func (s *Submission) StartRequest(project uint32, key, body Digest) {
	s.start(project, key, body, Part{})
}

// Part says what records of a stream are.
type Part struct {
	Stream Digest // of the stream's id; zero for records that are not of a stream
	First  uint64 // the number of the first of the records
	Token  uint32 // the id of the token that has sent them
	Flags  PartFlags
	ID     string // the stream's id, of at most 255 bytes; only with the flag PartHasID
}

// PartFlags are flags of a [Part].
type PartFlags uint8

// The flags of parts.
const (
	PartBegins PartFlags = 1 << iota // the stream begins with it, if it is not known
	PartNamed                        // a client has chosen the stream's id
	PartReader                       // the token may read the project's records
	PartHasID                        // the part has the stream's id; from protocol level 5 on
)

func (p *Part) has(flag PartFlags) bool { return p.Flags&flag != 0 }

// append adds the part's form in submissions.
func (p *Part) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, p.Stream[:]...), p.First)
	b = append(binary.BigEndian.AppendUint32(b, p.Token), byte(p.Flags))
	if p.has(PartHasID) {
		b = append(append(b, byte(len(p.ID))), p.ID...)
	}
	return b
}

// StartPart begins the next request of a [NewStreamSubmission]: the next records of a stream, appended all or none.
func (s *Submission) StartPart(project uint32, p Part) {
	s.start(project, Digest{}, Digest{}, p)
}

func (s *Submission) start(project uint32, key, body Digest, p Part) {
	s.requests++
	binary.BigEndian.PutUint32(s.data[s.fieldAt:], s.requests)
	s.data = binary.BigEndian.AppendUint32(s.data, project)
	s.data = append(append(s.data, key[:]...), body[:]...)
	if s.streams {
		s.data = p.append(s.data)
	}
	s.countAt = len(s.data)
	s.data = binary.BigEndian.AppendUint32(s.data, 0)
}

// AddEncoded adds a record to the request that was started last: its commitment, and its bytes as
// [chain.Record.AppendTo] makes them.
func (s *Submission) AddEncoded(commit chain.Hash, record []byte) {
	binary.BigEndian.PutUint32(s.data[s.countAt:], binary.BigEndian.Uint32(s.data[s.countAt:])+1)
	s.data = append(append(s.data, commit[:]...), record...)
}

// Bytes seals the submission with its checksum and returns it.
func (s *Submission) Bytes() []byte {
	binary.BigEndian.PutUint32(s.data, crc32.Checksum(s.data[4:], castagnoli))
	return s.data
}

// SubmissionRequests returns the number of requests in a submission that was made by [NewSubmission] or checked by
// [CheckSubmission]. It returns 0 for one that is cut short.
func SubmissionRequests(data []byte) uint32 {
	const member = commandHead + 8 + 8 // offset of the length of the member
	if len(data) <= member {
		return 0
	}
	at := member + 1 + int(data[member])
	if len(data) < at+4 {
		return 0
	}
	return binary.BigEndian.Uint32(data[at:])
}

// CheckSubmission checks a submission of another master before it enters the log: its checksum, its form, and that each
// record is of its request's project, is UTF-8 where it must be, and hashes to its commitment. Storage nodes would
// refuse the block of any other record. The error wraps [ErrBadCommand].
func CheckSubmission(data []byte) error {
	k, body, err := checkCommand(data)
	if err == nil && k != kindSubmission && k != kindStreamSubmission {
		err = fmt.Errorf("kind %d is no submission", k)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	sub, err := parseSubmission(k, body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	for i := range sub.requests {
		for j, r := range sub.requests[i].records {
			record, err := chain.ParseRecord(r.record)
			switch {
			case err != nil:
				return fmt.Errorf("%w: record %d of request %d: %w", ErrBadCommand, j, i, err)
			case record.Project != sub.requests[i].project:
				return fmt.Errorf("%w: record %d of request %d is of project %d, the request of %d",
					ErrBadCommand, j, i, record.Project, sub.requests[i].project)
			case chain.EncodedCommit(r.record) != r.commit:
				return fmt.Errorf("%w: record %d of request %d does not hash to its commitment", ErrBadCommand, j, i)
			}
		}
	}
	return nil
}

// Leadership is how long a leader has led: Elapsed milliseconds since the BeginTerm of Term, by its monotonic clock.
// The zero Leadership says nothing.
type Leadership struct{ Term, Elapsed uint64 }

// EncodeAppend makes the Append command of submissions: what a leader commits together, at its time in unix
// milliseconds. Submissions of other masters must have passed [CheckSubmission].
//
//	crc u32 ‖ kind u8 ‖ time u64 ‖ term u64 ‖ elapsed u64 ‖ submissions u32 ‖
//	(length u32 ‖ submission without crc and kind) …
//
// If a submission has parts of streams, the command is of kind 30, and each of its submissions has its kind:
//
//	(length u32 ‖ submission without crc) …
func EncodeAppend(time uint64, leadership Leadership, submissions ...[]byte) []byte {
	size := commandHead + 8 + 8 + 8 + 4
	k, from := kindAppend, commandHead
	for _, s := range submissions {
		size += 4 + len(s)
		if kind(s[4]) == kindStreamSubmission {
			k, from = kindStreamAppend, commandHead-1
		}
	}
	data := append(make([]byte, 0, size), 0, 0, 0, 0, byte(k))
	data = binary.BigEndian.AppendUint64(data, time)
	data = binary.BigEndian.AppendUint64(data, leadership.Term)
	data = binary.BigEndian.AppendUint64(data, leadership.Elapsed)
	data = binary.BigEndian.AppendUint32(data, uint32(len(submissions)))
	for _, s := range submissions {
		body := s[from:]
		data = append(binary.BigEndian.AppendUint32(data, uint32(len(body))), body...)
	}
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	return data
}

// parseAppend reads the body of an Append of either kind. It trusts no length.
func parseAppend(k kind, body []byte) (time uint64, leadership Leadership, submissions []submission, err error) {
	r := fields.New(body)
	time, leadership = r.Uint64(), Leadership{Term: r.Uint64(), Elapsed: r.Uint64()}
	submissions = make([]submission, r.Count(4))
	for i := range submissions {
		sub, of := fields.New(r.Bytes(int(r.Uint32()))), kindSubmission
		if k == kindStreamAppend {
			of = kind(sub.Uint8())
		}
		if of != kindSubmission && of != kindStreamSubmission {
			return 0, Leadership{}, nil, fmt.Errorf("%w: submission %d is of kind %d", ErrCommand, i, of)
		}
		if submissions[i], err = parseSubmission(of, sub.Rest()); err != nil {
			return 0, Leadership{}, nil, fmt.Errorf("submission %d: %w", i, err)
		}
	}
	if err := r.End(); err != nil {
		return 0, Leadership{}, nil, fmt.Errorf("%w: an append: %w", ErrCommand, err)
	}
	return time, leadership, submissions, nil
}

// submission is a parsed Submission; its records point into the log entry.
type submission struct {
	boot, seq uint64
	member    string
	requests  []request
}

// content is the digest of what a submission brings, whatever its name: SHA-256 of project ‖ key ‖ body ‖ count ‖
// commit × count for each request, big endian. The commitments stand for the records' salts, keys, types and payloads.
// The part of a stream has stream ‖ first ‖ token ‖ flags, and its id if it has that, before its commitments.
func (a *submission) content() Digest {
	h := sha256.New()
	var head [4 + 16 + 16 + 4]byte
	for i := range a.requests {
		q := &a.requests[i]
		b := binary.BigEndian.AppendUint32(head[:0], q.project)
		b = append(append(b, q.key[:]...), q.body[:]...)
		h.Write(binary.BigEndian.AppendUint32(b, uint32(len(q.records))))
		if q.part.Stream != (Digest{}) {
			h.Write(q.part.append(nil))
		}
		for j := range q.records {
			h.Write(q.records[j].commit[:])
		}
	}
	return Digest(h.Sum(nil)[:len(Digest{})])
}

type request struct {
	project   uint32
	key, body Digest
	part      Part
	records   []submitted
}

type submitted struct {
	commit chain.Hash
	record []byte
}

// payloadSize is the number of bytes of the record's payload.
func (r *submitted) payloadSize() uint32 { return chain.EncodedLeaf(r.record, r.commit).Size }

// parseSubmission reads a submission without its crc and kind. It trusts no length.
func parseSubmission(k kind, body []byte) (submission, error) {
	r := fields.New(body)
	a := submission{boot: r.Uint64(), seq: r.Uint64()}
	a.member = r.String8()
	const (
		smallestRequest = 4 + 16 + 16 + 4
		smallestRecord  = chain.HashSize + chain.RecordOverhead
	)
	a.requests = make([]request, r.Count(smallestRequest))
	for i := range a.requests {
		q := &a.requests[i]
		q.project = r.Uint32()
		q.key, q.body = Digest(r.Fixed(16)), Digest(r.Fixed(16))
		if k == kindStreamSubmission {
			q.part = Part{
				Stream: Digest(r.Fixed(16)), First: r.Uint64(), Token: r.Uint32(), Flags: PartFlags(r.Uint8()),
			}
			if q.part.has(PartHasID) {
				q.part.ID = r.String8()
			}
		}
		q.records = make([]submitted, r.Count(smallestRecord))
		if len(q.records) == 0 {
			return submission{}, fmt.Errorf("%w: request %d has no record, or is cut short", ErrCommand, i)
		}
		for j := range q.records {
			q.records[j].commit = chain.Hash(r.Fixed(chain.HashSize))
			size, err := chain.EncodedRecordSize(r.Rest())
			if err != nil {
				return submission{}, fmt.Errorf("%w: record %d of request %d: %w", ErrCommand, j, i, err)
			}
			q.records[j].record = r.Bytes(size)
		}
	}
	if err := r.End(); err != nil {
		return submission{}, fmt.Errorf("%w: a submission: %w", ErrCommand, err)
	}
	return a, nil
}

// AppendPlacements adds the result of a submission to dst, in the form of answers to forwarded submissions and of
// snapshots (big endian).
//
//	count u32 ‖ placement …
//	placement = reason u8 ‖ replay u8 ‖ time u64 ‖ runs u32 ‖ (block u64 ‖ offset u32 ‖ count u32 ‖ index u64) × runs
//	            ‖ (bytes u8 ‖ limit u64 ‖ left u64 ‖ wait u64), where the reason is RefusedRate
//	            ‖ next u64, where the reason is RefusedGap, RefusedPassed or RefusedForeign
func AppendPlacements(dst []byte, placements []Placement) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(placements)))
	for i := range placements {
		p := &placements[i]
		dst, _ = binary.Append(append(dst, byte(p.Err)), binary.BigEndian, p.Replay)
		dst = binary.BigEndian.AppendUint64(dst, p.Time)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Runs)))
		for _, r := range p.Runs {
			dst, _ = binary.Append(dst, binary.BigEndian, r)
		}
		if p.Err == RefusedRate {
			dst, _ = binary.Append(dst, binary.BigEndian, p.Shortage)
		}
		if p.Err.hasNext() {
			dst = binary.BigEndian.AppendUint64(dst, p.Next)
		}
	}
	return dst
}

const (
	runSize       = 8 + 4 + 4 + 8
	placementSize = 1 + 1 + 8 + 4 // without its runs
)

// ParsePlacements reads what AppendPlacements wrote, which must fill data exactly. The error wraps [ErrBadCommand].
func ParsePlacements(data []byte) ([]Placement, error) {
	r := fields.New(data)
	placements := make([]Placement, r.Count(placementSize))
	for i := range placements {
		p := &placements[i]
		p.Err, p.Replay = Reason(r.Uint8()), r.Uint8() != 0
		p.Time = r.Uint64()
		if runs := r.Count(runSize); runs > 0 {
			p.Runs = make([]Run, runs)
		}
		for j := range p.Runs {
			p.Runs[j] = Run{Block: r.Uint64(), Offset: r.Uint32(), Count: r.Uint32(), Index: r.Uint64()}
		}
		if p.Err == RefusedRate {
			p.Shortage = &Shortage{Bytes: r.Uint8() != 0, Limit: r.Uint64(), Left: r.Uint64(), Wait: r.Uint64()}
		}
		if p.Err.hasNext() {
			p.Next = r.Uint64()
		}
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("%w: placements: %w", ErrBadCommand, err)
	}
	return placements, nil
}

// keyWindow remembers idempotency keys for as long as the settings say, in the order of their arrival. The keys are
// in pages that are only appended to, so that a snapshot can share them while the state changes. A key takes 48 bytes
// there and 5 to 11 in the hash table (a Go map takes 43 to 50), less than the 64 bytes that docs/masters.md promises.
type keyWindow struct {
	pages [][]keyEntry // entries by number, keyPage of them a page
	first uint64       // number of the oldest entry that is remembered
	next  uint64       // number of the next entry
	base  uint64       // number of the first entry of pages[0]

	// The hash table uses open addressing with linear probing; a deletion moves the entries behind it up. The order of
	// the slots differs between masters and is not part of the state. A slot is an entry's number minus origin plus 1,
	// or 0 if it is free.
	slots  []uint32
	origin uint64
	seed   maphash.Seed // so that clients cannot choose keys that collide
}

const (
	keyPage     = 4096
	fewestSlots = 64
)

// keyEntry is a request with an idempotency key: 48 bytes.
type keyEntry struct {
	key    Digest  // of project and key
	body   [8]byte // of the content's digest: enough to recognise other content under the same key
	block  uint64  // of the first record
	offset uint32
	count  uint32 // records
	age    uint64 // of the table when it arrived, milliseconds: see State.age
}

func newKeyWindow() keyWindow {
	return keyWindow{slots: make([]uint32, fewestSlots), seed: maphash.MakeSeed()}
}

// scopedKey makes one name of a project and a key within it.
func scopedKey(project uint32, key Digest) Digest {
	var b [4 + len(key)]byte
	binary.BigEndian.PutUint32(b[:], project)
	copy(b[4:], key[:])
	sum := sha256.Sum256(b[:])
	return Digest(sum[:len(key)])
}

func (w *keyWindow) at(number uint64) *keyEntry {
	i := number - w.base
	return &w.pages[i/keyPage][i%keyPage]
}

func (w *keyWindow) count() uint64 { return w.next - w.first }

// home is the slot at which the search for a key begins.
func (w *keyWindow) home(key *Digest) int {
	return int(maphash.Bytes(w.seed, key[:]) & uint64(len(w.slots)-1))
}

// slot is the slot of a key, or the free slot at which its search ends.
func (w *keyWindow) slot(key *Digest) int {
	i := w.home(key)
	for w.slots[i] != 0 && w.at(w.origin+uint64(w.slots[i])-1).key != *key {
		i = (i + 1) & (len(w.slots) - 1)
	}
	return i
}

func (w *keyWindow) find(key Digest) (*keyEntry, bool) {
	n := w.slots[w.slot(&key)]
	if n == 0 {
		return nil, false
	}
	return w.at(w.origin + uint64(n) - 1), true
}

func (w *keyWindow) add(e keyEntry) {
	//mutant:remembered-key
	if (w.next-w.base)%keyPage == 0 {
		w.pages = append(w.pages, make([]keyEntry, 0, keyPage))
	}
	last := len(w.pages) - 1
	w.pages[last] = append(w.pages[last], e)
	w.next++
	if 4*w.count() > 3*uint64(len(w.slots)) {
		w.rebuild(2 * len(w.slots))
		return
	}
	if w.next-w.origin > math.MaxUint32 {
		w.rebuild(len(w.slots))
		return
	}
	w.slots[w.slot(&e.key)] = uint32(w.next - w.origin)
}

// reserve makes room in an empty table for so many keys, so that it need not grow again and again.
func (w *keyWindow) reserve(keys uint64) {
	const most = 1 << 20 // a number that was read and may be wrong
	size := len(w.slots)
	for 4*min(keys, most) > 3*uint64(size) {
		size *= 2
	}
	w.rebuild(size)
}

// rebuild makes the table anew, of a size that is a power of two.
func (w *keyWindow) rebuild(size int) {
	w.slots, w.origin = make([]uint32, size), w.first
	for number := w.first; number < w.next; number++ {
		w.slots[w.slot(&w.at(number).key)] = uint32(number - w.origin + 1)
	}
}

// evict forgets the keys that are too old or too many.
func (w *keyWindow) evict(age uint64, s Settings) {
	for w.first < w.next && (w.count() > uint64(s.MaxKeys) || age-w.at(w.first).age > s.KeyAge) {
		w.free(w.slot(&w.at(w.first).key))
		w.first++
		if w.first-w.base == keyPage {
			w.pages = append([][]keyEntry(nil), w.pages[1:]...)
			w.base += keyPage
		}
	}
	size := len(w.slots)
	for size > fewestSlots && 8*w.count() < uint64(size) {
		size /= 2
	}
	if size < len(w.slots) {
		w.rebuild(size)
	}
}

// free empties a slot. It moves up the entries behind it that could not be found any more.
func (w *keyWindow) free(i int) {
	mask := len(w.slots) - 1
	for j := (i + 1) & mask; w.slots[j] != 0; j = (j + 1) & mask {
		home := w.home(&w.at(w.origin + uint64(w.slots[j]) - 1).key)
		if (j-home)&mask >= (j-i)&mask {
			w.slots[i] = w.slots[j]
			i = j
		}
	}
	w.slots[i] = 0
}

// Keys returns how many idempotency keys are remembered, and the age of the oldest in milliseconds by the clock of the
// keys. leadership is how long a leader has led, zero to use the log alone.
func (s *State) Keys(leadership Leadership) (remembered int, oldest uint64) {
	if s.keys.count() == 0 {
		return 0, 0
	}
	return int(s.keys.count()), s.ageAt(leadership) - s.keys.at(s.keys.first).age
}
