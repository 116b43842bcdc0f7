package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Limits of a record's parts, in bytes. MaxPayload is the limit of the format. The limit of a cluster is a setting.
const (
	SaltSize   = 16
	MaxKey     = 255
	MaxType    = 255
	MaxPayload = 1 << 30
)

// RecordOverhead is the size of a record's fixed part in a block, in bytes:
//
//	project u32 ‖ time u64 ‖ salt[16] ‖ key length u8 ‖ type length u8 ‖ size u32
const RecordOverhead = 4 + 8 + SaltSize + 1 + 1 + 4

// timeAt is the offset of the time within an encoded record.
const timeAt = 4

// Record is one entry of the chain as it was appended.
type Record struct {
	Project uint32 // the project that owns it
	// unix milliseconds, given by the leader at the commit, never less than the record's before it
	Time    uint64
	Salt    [SaltSize]byte // random, one per record: a short payload cannot be guessed from its leaf
	Key     string         // UTF-8, at most 255 bytes, "" for none
	Type    string         // media type, UTF-8, at most 255 bytes, as given by the client
	Payload []byte         // the bytes themselves
}

// Check reports which limit the record breaks: it wraps [ErrRecord].
func (r *Record) Check() error {
	switch {
	case len(r.Key) > MaxKey:
		return fmt.Errorf("%w: the key has %d bytes, the limit is %d", ErrRecord, len(r.Key), MaxKey)
	case len(r.Type) > MaxType:
		return fmt.Errorf("%w: the type has %d bytes, the limit is %d", ErrRecord, len(r.Type), MaxType)
	case len(r.Payload) > MaxPayload:
		return fmt.Errorf("%w: the payload has %d bytes, the limit is %d", ErrRecord, len(r.Payload), MaxPayload)
	case !utf8.ValidString(r.Key):
		return fmt.Errorf("%w: the key is not UTF-8", ErrRecord)
	case !utf8.ValidString(r.Type):
		return fmt.Errorf("%w: the type is not UTF-8", ErrRecord)
	}
	return nil
}

// Commit is the commitment to the record's content:
//
//	SHA-256(salt[16] ‖ len8(key) ‖ key ‖ len8(type) ‖ type ‖ payload)
//
// The record must be within the limits that [Record.Check] names.
func (r *Record) Commit() Hash {
	return commitParts(r.Salt[:], r.Key, r.Type, r.Payload)
}

func commitParts[T string | []byte](salt []byte, key, typ T, payload []byte) Hash {
	// The head of the hashed bytes fits a buffer on the stack; the payload is hashed in place.
	var buf [SaltSize + 1 + MaxKey + 1 + MaxType]byte
	head := append(buf[:0], salt...)
	head = append(append(head, byte(len(key))), key...)
	head = append(append(head, byte(len(typ))), typ...)
	return commit(head, payload)
}

// smallCommit is the largest input that is hashed in one call, which saves the hash object.
const smallCommit = 1024

// commit hashes head ‖ payload.
func commit(head, payload []byte) Hash {
	if len(head)+len(payload) <= smallCommit {
		return commitSmall(head, payload)
	}
	h := sha256.New()
	h.Write(head)
	h.Write(payload)
	var sum Hash
	h.Sum(sum[:0])
	return sum
}

// commitSmall is commit through a buffer on the stack. It is a function of its own so that only short input pays for
// clearing that.
//
//go:noinline
func commitSmall(head, payload []byte) Hash {
	var small [smallCommit]byte
	n := copy(small[:], head)
	n += copy(small[n:], payload)
	return sha256.Sum256(small[:n])
}

// Leaf is the record's leaf of the tree.
func (r *Record) Leaf() Leaf {
	return Leaf{Project: r.Project, Time: r.Time, Size: uint32(len(r.Payload)), Commit: r.Commit()}
}

// EncodedSize is the number of bytes that AppendTo adds.
func (r *Record) EncodedSize() int {
	return RecordOverhead + len(r.Key) + len(r.Type) + len(r.Payload)
}

// AppendTo adds the record to dst in the form it has in a block (big endian):
//
//	project u32 ‖ time u64 ‖ salt[16] ‖ key length u8 ‖ type length u8 ‖ size u32 ‖ key ‖ type ‖ payload
//
// The record must be within the limits that [Record.Check] names.
func (r *Record) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, r.Project)
	dst = binary.BigEndian.AppendUint64(dst, r.Time)
	dst = append(dst, r.Salt[:]...)
	dst = append(dst, byte(len(r.Key)), byte(len(r.Type)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Payload)))
	dst = append(dst, r.Key...)
	dst = append(dst, r.Type...)
	return append(dst, r.Payload...)
}

// SetEncodedTime writes t into an encoded record. The state machine uses it: the master that received a record encodes
// it, and the commit sets its time.
func SetEncodedTime(encoded []byte, t uint64) {
	binary.BigEndian.PutUint64(encoded[timeAt:], t)
}

// ParseRecord reads a record that fills data exactly. The payload is not copied: it points into data.
// The error wraps [ErrFrame].
func ParseRecord(data []byte) (Record, error) {
	size, err := EncodedRecordSize(data)
	if err != nil {
		return Record{}, err
	}
	if size != len(data) {
		return Record{}, fmt.Errorf("%w: a record of %d bytes in a frame of %d", ErrFrame, size, len(data))
	}
	var r Record
	r.Project = binary.BigEndian.Uint32(data)
	r.Time = binary.BigEndian.Uint64(data[timeAt:])
	copy(r.Salt[:], data[12:])
	key, typ := int(data[28]), int(data[29])
	rest := data[RecordOverhead:]
	r.Key, r.Type, r.Payload = string(rest[:key]), string(rest[key:key+typ]), rest[key+typ:]
	if !utf8.ValidString(r.Key) || !utf8.ValidString(r.Type) {
		return Record{}, fmt.Errorf("%w: the key or the type of a record is not UTF-8", ErrFrame)
	}
	return r, nil
}

// EncodedRecordSize returns the length of the encoded record at the start of data, which may be longer. The error wraps
// [ErrFrame] when data is too short to hold it.
func EncodedRecordSize(data []byte) (int, error) {
	if len(data) < RecordOverhead {
		return 0, fmt.Errorf("%w: %d bytes are too few for a record", ErrFrame, len(data))
	}
	payload := binary.BigEndian.Uint32(data[30:])
	if payload > MaxPayload {
		return 0, fmt.Errorf("%w: a payload of %d bytes, the limit is %d", ErrFrame, payload, MaxPayload)
	}
	size := RecordOverhead + int(data[28]) + int(data[29]) + int(payload)
	if size > len(data) {
		return 0, fmt.Errorf("%w: a record of %d bytes where %d are left", ErrFrame, size, len(data))
	}
	return size, nil
}

// EncodedLeaf is the leaf of an encoded record of the right size whose commitment is known already.
func EncodedLeaf(encoded []byte, commit Hash) Leaf {
	return Leaf{
		Project: binary.BigEndian.Uint32(encoded),
		Time:    binary.BigEndian.Uint64(encoded[timeAt:]),
		Size:    binary.BigEndian.Uint32(encoded[30:]),
		Commit:  commit,
	}
}

// EncodedKey is the key of an encoded record of the right size; it points into it.
func EncodedKey(encoded []byte) []byte {
	return encoded[RecordOverhead : RecordOverhead+int(encoded[28])]
}

// EncodedCommit computes the commitment of an encoded record of the right size without decoding it. Salt, key, type and
// payload are in the order in which they are hashed; only the lengths must be moved between them.
func EncodedCommit(encoded []byte) Hash {
	key, typ := int(encoded[28]), int(encoded[29])
	rest := encoded[RecordOverhead:]
	return commitParts(encoded[12:28], rest[:key], rest[key:key+typ], rest[key+typ:])
}
