package nodeauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Purposes of sessions. Each route accepts some of them.
const (
	Masters  = "masters"  // a master calls another one
	Storage  = "storage"  // a storage node calls a master, or another storage node
	Miner    = "miner"    // a miner calls a master
	Recovery = "recovery" // a recovery of the masters calls a storage node, or a master
	Orders   = "orders"   // a master calls a worker; bound to the worker's master token
)

// A session is opened with two requests. The body of each, and of its answer, is binary. Numbers are big endian.
//
//	hello:     "CSNA" ‖ version u8 = 1 ‖ 1 ‖ len8 ‖ purpose ‖ caller's process[16] ‖ caller's nonce[32]
//	challenge: receiver's process[16] ‖ receiver's nonce[32] ‖ age u64 ‖ tag[16]
//	open:      "CSNA" ‖ version u8 = 1 ‖ 2 ‖ the rest of the hello ‖ the challenge ‖ len8 ‖ caller's name ‖ mac[32]
//	opened:    session[16] ‖ mac[32]
//
// A process is named by random bytes that it chooses at its start. The receiver keeps nothing of a challenge: the tag
// is a MAC over the hello and the challenge under a key that it does not share, and age is its own running time in
// nanoseconds. The caller proves the secret first, with a MAC over "open" and the message. The receiver answers with a
// MAC over "opened", the message and the session.
const (
	magic       = "CSNA"
	version     = 1
	stepHello   = 1
	stepOpen    = 2
	processSize = 16
	nonceSize   = 32
	tagSize     = 16
	sessionSize = 16
	macSize     = sha256.Size
	// maxMessage bounds the body of a request that opens a session, in bytes.
	maxMessage    = 1 << 10
	challengeSize = processSize + nonceSize + 8 + tagSize
	openedSize    = sessionSize + macSize
)

// challengeTime is how long a challenge can be answered.
const challengeTime = 10 * time.Second

var errMessage = errors.New("the message does not have the form of a session")

// Process names a process, so that its calls cannot be sent back to it.
type Process [processSize]byte

// NewProcess returns the name of a new process.
func NewProcess() (p Process) {
	rand.Read(p[:])
	return p
}

// hello is what both messages of a caller begin with.
type hello struct {
	purpose string
	caller  Process
	nonce   [nonceSize]byte
}

func (h *hello) encode(step byte) []byte {
	out := append(append(make([]byte, 0, 256), magic...), version, step, byte(len(h.purpose)))
	out = append(out, h.purpose...)
	out = append(out, h.caller[:]...)
	return append(out, h.nonce[:]...)
}

// parseHello reads a hello, and returns the step and what follows.
func parseHello(message []byte) (h hello, step byte, rest []byte, err error) {
	if len(message) < len(magic)+3 || string(message[:len(magic)]) != magic {
		return h, 0, nil, errMessage
	}
	if v := message[len(magic)]; v != version {
		return h, 0, nil, fmt.Errorf("%w: its version is %d, this program knows %d", errMessage, v, version)
	}
	step, size := message[len(magic)+1], int(message[len(magic)+2])
	rest = message[len(magic)+3:]
	if len(rest) < size+processSize+nonceSize {
		return h, 0, nil, errMessage
	}
	h.purpose, rest = string(rest[:size]), rest[size:]
	rest = rest[copy(h.caller[:], rest):]
	rest = rest[copy(h.nonce[:], rest):]
	return h, step, rest, nil
}

// Labels of MACs, so that no MAC can be used in the place of another.
const (
	labelPurpose = "purpose"
	labelTag     = "challenge"
	labelOpen    = "open"
	labelOpened  = "opened"
	labelRequest = "request"
	labelAnswer  = "answer"
)

// key is the key of HMAC-SHA256.
type key [sha256.Size]byte

// mac returns the MAC over a label and parts, each with its length.
func (k key) mac(label string, parts ...[]byte) [macSize]byte {
	m := k.begin(label)
	for _, p := range parts {
		addPart(m, p)
	}
	return [macSize]byte(m.Sum(nil))
}

func (k key) begin(label string) hash.Hash {
	m := hmac.New(sha256.New, k[:])
	m.Write([]byte{byte(len(label))})
	m.Write([]byte(label))
	return m
}

func addPart(m hash.Hash, part []byte) {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(part)))
	m.Write(size[:])
	m.Write(part)
}

// keyOf derives the key of a purpose from that of a token. bound is a worker's master token, or "".
func keyOf(base [sha256.Size]byte, purpose, bound string) key {
	return key(key(base).mac(labelPurpose, []byte(purpose), []byte(bound)))
}

// sessionKeys are the two keys of a session, for its requests and its answers.
type sessionKeys struct{ request, answer key }

// keysOf derives the keys of a session from that of its purpose.
func keysOf(k key, open []byte, session [sessionSize]byte) sessionKeys {
	return sessionKeys{
		request: key(k.mac(labelRequest, open, session[:])), answer: key(k.mac(labelAnswer, open, session[:])),
	}
}

// digestSize is that of a SHA-256. A request whose body is not covered has noDigest.
const digestSize = sha256.Size

const noDigest = "-"

var emptyDigest = sha256.Sum256(nil)

// requestHeaders and answerHeaders are the headers that a MAC covers, besides the method, the path with the query, the
// body, and the status. They are all that handlers of the nodes' routes read, and callers of the nodes' answers.
var (
	requestHeaders = []string{
		"Authorization", "Content-Type", "Content-Encoding", "Accept", wire.HeaderFence, wire.HeaderCaller,
		wire.HeaderHops,
	}
	answerHeaders = []string{"Content-Type", "Retry-After", "Cache-Control"}
	// connectionHeaders are the headers of a request that a receiver keeps although the MAC does not cover them: those
	// of its connection, for logs, and the proof itself.
	connectionHeaders = []string{"Content-Length", "Expect", "Connection", "User-Agent", wire.HeaderAuth}
)

// proof is the content of the header of a request: session ‖ counter ‖ digest of the body ‖ mac, in text.
type proof struct {
	session [sessionSize]byte
	counter uint64
	covered bool // the digest is that of the body
	digest  [digestSize]byte
	mac     [macSize]byte
}

var encoding = base64.RawURLEncoding

func (p *proof) String() string {
	digest := noDigest
	if p.covered {
		digest = encoding.EncodeToString(p.digest[:])
	}
	return encoding.EncodeToString(p.session[:]) + " " + strconv.FormatUint(p.counter, 10) + " " + digest + " " +
		encoding.EncodeToString(p.mac[:])
}

func parseProof(text string) (p proof, err error) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 {
		return p, errMessage
	}
	if p.counter, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return p, errMessage
	}
	if p.covered = parts[2] != noDigest; p.covered {
		err = decodeInto(p.digest[:], parts[2])
	}
	return p, errors.Join(err, decodeInto(p.session[:], parts[0]), decodeInto(p.mac[:], parts[3]))
}

// decodeInto decodes text, which must fill into.
func decodeInto(into []byte, text string) error {
	data, err := encoding.DecodeString(text)
	if err != nil || len(data) != len(into) {
		return errMessage
	}
	copy(into, data)
	return nil
}

// sign returns the MAC over a request with this proof.
func (p *proof) sign(k key, method, uri string, h http.Header) [macSize]byte {
	m := k.begin(labelRequest)
	var number [9]byte
	binary.BigEndian.PutUint64(number[:], p.counter)
	if p.covered {
		number[8] = 1
	}
	addPart(m, number[:])
	addPart(m, p.digest[:])
	addPart(m, []byte(method))
	addPart(m, []byte(uri))
	addHeaders(m, h, requestHeaders)
	return [macSize]byte(m.Sum(nil))
}

// signAnswer returns the MAC over an answer to the request with this proof.
func (p *proof) signAnswer(k key, status int, h http.Header, digest []byte) []byte {
	m := k.begin(labelAnswer)
	addPart(m, p.mac[:])
	addPart(m, binary.BigEndian.AppendUint32(nil, uint32(status)))
	addHeaders(m, h, answerHeaders)
	addPart(m, digest)
	return m.Sum(nil)
}

// addHeaders adds the values of headers, without the spaces around them, which are not sent.
func addHeaders(m hash.Hash, h http.Header, names []string) {
	for _, name := range names {
		addPart(m, []byte(textproto.TrimString(h.Get(name))))
	}
}

// fresh returns a nonce.
func fresh() (nonce [nonceSize]byte) {
	rand.Read(nonce[:])
	return nonce
}

// equal compares two MACs in constant time.
func equal(a, b []byte) bool { return len(a) == len(b) && hmac.Equal(a, b) }
