// Package witness is a transparency log witness for tests. It implements the part of C2SP tlog-witness that a log uses:
// the call add-checkpoint, and the checkpoint below the monitoring prefix, which is the same prefix here. It reports
// errors of a log with the status codes of the specification, so a log that works with it conforms to the
// specification.
//
// It keeps its state in memory, where it survives a restart of the listener but not of the process. It shares no code
// with the program under test: transparency-dev/merkle checks the consistency, and transparency-dev/formats creates the
// cosignatures.
package witness

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

const (
	maxRequest = 64 << 10 // bytes; 63 lines of a proof are below 3 KiB
	maxProof   = 63       // lines, as specified
)

// Witness is an [http.Handler]. It is safe for concurrent use.
type Witness struct {
	vkey   string
	signer note.Signer
	mux    *http.ServeMux

	// mu guards the fields below. It is held from the check of the old size to the update, so that both are atomic.
	mu   sync.Mutex
	keys map[string][]string // by origin: the vkeys of the log
	seen map[string]latest   // by origin
}

// latest is the newest checkpoint of a log that was cosigned.
type latest struct {
	size uint64
	root []byte
	note []byte // with the cosignature and the log's own signatures that were verified
}

// New returns a witness with a name and a new key. It knows no log yet.
func New(name string) (*Witness, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	if vkey, err = formats.VKeyToCosignatureV1(vkey); err != nil {
		return nil, err
	}
	return newWitness(skey, vkey)
}

// NewMLDSA is like [New] with an ML-DSA-44 key.
func NewMLDSA(name string) (*Witness, error) {
	skey, vkey, err := formats.GenerateMLDSAKey(name)
	if err != nil {
		return nil, err
	}
	return newWitness(skey, vkey)
}

func newWitness(skey, vkey string) (*Witness, error) {
	signer, err := formats.NewSignerForCosignatureV1(skey)
	if err != nil {
		return nil, err
	}
	w := &Witness{vkey: vkey, signer: signer, mux: http.NewServeMux(), keys: map[string][]string{},
		seen: map[string]latest{}}
	w.mux.HandleFunc("POST /add-checkpoint", w.add)
	w.mux.HandleFunc("GET /{hash}/checkpoint", w.monitor)
	return w, nil
}

// VKey returns the witness's verifier key, of type 0x04, or 0x06 for ML-DSA-44.
func (w *Witness) VKey() string { return w.vkey }

// Know makes the witness accept checkpoints of a log that are signed by one of the keys. The keys replace earlier ones.
func (w *Witness) Know(origin string, vkeys ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[origin] = vkeys
}

// Forget removes the state of a log, like the loss of the witness's disk.
func (w *Witness) Forget(origin string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.seen, origin)
}

// Size returns the size of the newest checkpoint of a log that the witness has cosigned, 0 if there is none.
func (w *Witness) Size(origin string) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[origin].size
}

// ServeHTTP implements [http.Handler].
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.mux.ServeHTTP(rw, r) }

// refusal is a response with a status other than 200.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// conflict is a response with status 409.
type conflict struct{ size uint64 }

func (c *conflict) Error() string { return fmt.Sprintf("the latest cosigned size is %d", c.size) }

func (w *Witness) add(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxRequest))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	lines, err := w.cosign(body)
	var c *conflict
	var no *refusal
	switch {
	case errors.As(err, &c):
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(rw, "%d\n", c.size) // the caller may have closed the connection
	case errors.As(err, &no):
		http.Error(rw, no.why, no.status)
	case err != nil:
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	default:
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = rw.Write(lines) // the caller may have closed the connection
	}
}

// cosign implements add-checkpoint: it returns the witness's signature line.
func (w *Witness) cosign(body []byte) ([]byte, error) {
	s, err := parseSubmission(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	checkpoint, opened, err := w.open(s.note)
	if err != nil {
		return nil, err
	}
	if err := follows(s, checkpoint, w.seen[checkpoint.Origin]); err != nil {
		return nil, err
	}
	cosigned, err := note.Sign(&note.Note{Text: opened.Text, Sigs: opened.Sigs}, w.signer)
	if err != nil {
		return nil, err
	}
	w.seen[checkpoint.Origin] = latest{size: checkpoint.Size, root: checkpoint.Hash, note: cosigned}
	// The new signature follows the existing ones.
	lines := bytes.SplitAfter(cosigned, []byte("\n"))
	return lines[len(lines)-2], nil
}

// open parses a note and checks its signatures with the keys of its origin.
func (w *Witness) open(text []byte) (*log.Checkpoint, *note.Note, error) {
	checkpoint := &log.Checkpoint{}
	if _, err := checkpoint.Unmarshal(text); err != nil {
		return nil, nil, refuse(http.StatusBadRequest, "no checkpoint: %v", err)
	}
	if len(checkpoint.Hash) != sha256.Size || !bytes.HasPrefix(text, checkpoint.Marshal()) {
		return nil, nil, refuse(http.StatusBadRequest, "no checkpoint: the size or the root is not written as it "+
			"must be")
	}
	vkeys, known := w.keys[checkpoint.Origin]
	if !known {
		return nil, nil, refuse(http.StatusNotFound, "no log of the origin %q is known", checkpoint.Origin)
	}
	var verifiers []note.Verifier
	for _, vkey := range vkeys {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, nil, err
		}
		verifiers = append(verifiers, v)
	}
	opened, err := note.Open(text, note.VerifierList(verifiers...))
	var wrong *note.InvalidSignatureError
	var unknown *note.UnverifiedNoteError
	switch {
	case errors.As(err, &wrong), errors.As(err, &unknown):
		return nil, nil, refuse(http.StatusForbidden, "%v", err)
	case err != nil:
		return nil, nil, refuse(http.StatusBadRequest, "no signed note: %v", err)
	}
	return checkpoint, opened, nil
}

// follows compares a checkpoint with the latest one. The checks have the order of the specification.
func follows(s *submission, c *log.Checkpoint, have latest) error {
	switch empty := sha256.Sum256(nil); {
	case s.old > c.Size:
		return refuse(http.StatusBadRequest, "the old size %d is larger than the checkpoint's, %d", s.old, c.Size)
	case s.old != have.size:
		return &conflict{have.size}
	case c.Size == 0 && !bytes.Equal(c.Hash, empty[:]):
		return refuse(http.StatusUnprocessableEntity, "a root of the empty tree that is not its root")
	case s.old == 0 && len(s.proof) > 0:
		return refuse(http.StatusUnprocessableEntity, "a proof of %d hashes from the empty tree", len(s.proof))
	case s.old == 0:
		return nil
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, s.old, c.Size, s.proof, have.root, c.Hash); err != nil {
		return refuse(http.StatusUnprocessableEntity, "the sizes %d and %d are not consistent: %v", s.old, c.Size, err)
	}
	return nil
}

// monitor serves the newest checkpoint of the log whose origin has the given SHA-256.
func (w *Witness) monitor(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for origin, l := range w.seen {
		if sum := sha256.Sum256([]byte(origin)); hex.EncodeToString(sum[:]) == r.PathValue("hash") {
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = rw.Write(l.note) // the caller may have closed the connection
			return
		}
	}
	http.Error(rw, "no checkpoint of that log was cosigned", http.StatusNotFound)
}

// submission is the body of add-checkpoint.
type submission struct {
	old   uint64
	proof [][]byte
	note  []byte
}

func parseSubmission(body []byte) (*submission, error) {
	head, text, found := bytes.Cut(body, []byte("\n\n"))
	if !found {
		return nil, errors.New("no empty line behind the proof")
	}
	lines := strings.Split(string(head), "\n")
	size, found := strings.CutPrefix(lines[0], "old ")
	if !found {
		return nil, fmt.Errorf("the first line is %q, not the old size", lines[0])
	}
	s := &submission{note: text}
	var err error
	if s.old, err = strconv.ParseUint(size, 10, 63); err != nil || strconv.FormatUint(s.old, 10) != size {
		return nil, fmt.Errorf("%q is no size", size)
	}
	if len(lines)-1 > maxProof {
		return nil, fmt.Errorf("a proof of %d lines, %d are allowed", len(lines)-1, maxProof)
	}
	for _, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("%q is no hash", line)
		}
		s.proof = append(s.proof, hash)
	}
	return s, nil
}
