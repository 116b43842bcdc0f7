package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/proof"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/signedlog"
	"github.com/chainstore/chainstore/wire"
)

// mustJSON writes a value as JSON.
func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// receiptOf returns a log, the receipt of one of its records, and that record's payload.
func receiptOf(t testing.TB) (*testLog, wire.Receipt, []byte) {
	t.Helper()
	l := newTestLog(t, 3, 5, 2, 1)
	r := l.receipt(1, 3, l.sizes[3])
	return l, r, l.records[r.Index].Payload
}

func TestReceiptGood(t *testing.T) {
	l := newTestLog(t, 1, 5, 2, 300, 1)
	for block := range l.Blocks {
		for offset := range min(6, l.Blocks[block].Header.Count) {
			for _, size := range l.sizes[block:] {
				r := l.receipt(block, int(offset), size)
				report := Receipt(mustJSON(t, r), l.trust(), l.records[r.Index].Payload)
				if !report.Good() || !report.Payload || report.Index != r.Index || report.Checkpoint.Size != size ||
					report.Leaf.Size != r.Size {
					t.Errorf("block %d, offset %d, tree of %d: %+v", block, offset, size, report)
				}
				if len(report.Remarks) != 1 ||
					!strings.Contains(report.Remarks[0], "difficulty 4 bits: the block took about 16 tries") {
					t.Errorf("remarks: %q", report.Remarks)
				}
			}
		}
	}
}

// TestReceiptInAPosition checks that the response to an append that waited for its block is a receipt too, even with
// additional fields.
func TestReceiptInAPosition(t *testing.T) {
	l, r, payload := receiptOf(t)
	answer := map[string]any{
		"block": r.Block, "offset": r.Offset, "index": r.Index, "time": r.Time, "leaf": r.Leaf, "state": "stored",
		"new": 1, "receipt": r,
	}
	if report := Receipt(mustJSON(t, answer), l.trust(), payload); !report.Good() || !report.Payload {
		t.Errorf("%+v", report.Findings)
	}
	for name, other := range map[string]any{"block": 0, "offset": 4, "index": r.Index + 1, "time": 5,
		"leaf": chain.Hash{1}} {
		changed := map[string]any{"receipt": r}
		for k, v := range answer {
			changed[k] = v
		}
		changed[name] = other
		report := Receipt(mustJSON(t, changed), l.trust(), payload)
		if codes(report.Findings) != CodePosition || !strings.Contains(report.Findings[0].Text, "another "+name) {
			t.Errorf("another %s: %v", name, report.Findings)
		}
	}
	inner := string(mustJSON(t, r))
	for name, c := range map[string]struct{ data, want string }{
		"two, forged":          {`{"receipt":{},"receipt":` + inner + `}`, `the field "receipt" twice`},
		"an index twice":       {`{"index":12345,"index":7,"receipt":` + inner + `}`, `the field "index" twice`},
		"an index twice, loud": {`{"index":12345,"INDEX":7,"receipt":` + inner + `}`, `the field "index" twice`},
		"a key around":         {`{"key":"FORGED","receipt":` + inner + `}`, `the field "key" is next to the receipt`},
		"a type around": {`{"Type":"FORGED","receipt":` + inner + `}`,
			`the field "type" is next to the receipt`},
		"a long s": {`{"ſize":1,"receipt":` + inner + `}`, `the field "size" is next to the receipt`},
		"a format around": {`{"format":"chainstore-receipt/v1","receipt":` + inner + `}`,
			`the field "format" is next to the receipt`},
		"two receipts": {`{"receipt":` + inner + `,"receipt":` + inner + `}`, `the field "receipt" twice`},
		"a list":       {`[` + inner + `]`, "no JSON object"},
		"no receipt":   {`{"receipt":7}`, "what should be one object is no object"},
		"a bad place":  {`{"block":"x","receipt":` + inner + `}`, "block"},
		"more behind":  {`{"receipt":` + inner + `} x`, "more behind the object"},
	} {
		if report := Receipt([]byte(c.data), l.trust(), payload); codes(report.Findings) != CodeFormat ||
			!strings.Contains(report.Findings[0].Text, c.want) {
			t.Errorf("%s: %v, want %q", name, report.Findings, c.want)
		}
	}
	if report := Receipt([]byte(`{"block":0,"offset":1,"state":"committed"}`), l.trust(),
		nil); codes(report.Findings) != CodeFormat ||
		!strings.Contains(report.Findings[0].Text, "holds none") {
		t.Errorf("no receipt: %v", report.Findings)
	}
}

func flip(h chain.Hash) chain.Hash {
	h[7] ^= 1
	return h
}

// TestReceiptEachField checks that a change of each field of a receipt is detected and reported by name.
func TestReceiptEachField(t *testing.T) {
	l, good, payload := receiptOf(t)
	alter := map[string]struct {
		change func(r *wire.Receipt)
		want   string
	}{
		"format":     {func(r *wire.Receipt) { r.Format = "chainstore-receipt/v2" }, CodeFormat},
		"origin":     {func(r *wire.Receipt) { r.Origin = "another" }, CodeOrigin},
		"index":      {func(r *wire.Receipt) { r.Index++ }, CodeIndex},
		"block":      {func(r *wire.Receipt) { r.Block++ }, CodeBlock},
		"offset":     {func(r *wire.Receipt) { r.Offset-- }, CodeOffset},
		"time":       {func(r *wire.Receipt) { r.Time++ }, CodeTime},
		"project_id": {func(r *wire.Receipt) { r.ProjectID++ }, CodeProject},
		"size":       {func(r *wire.Receipt) { r.Size-- }, CodeSize},
		"key":        {func(r *wire.Receipt) { r.Key += "x" }, CodePayload},
		"type":       {func(r *wire.Receipt) { r.Type = "text/html" }, CodePayload},
		"salt":       {func(r *wire.Receipt) { r.Salt = bytes.Repeat([]byte{9}, 16) }, CodePayload},
		"commit":     {func(r *wire.Receipt) { r.Commit = flip(r.Commit) }, CodeCommitment},
		"leaf":       {func(r *wire.Receipt) { r.Leaf = flip(r.Leaf) }, CodeLeaf},
		"leaf_data": {func(r *wire.Receipt) { r.LeafData = append(bytes.Clone(r.LeafData[:48]), r.LeafData[48]^1) },
			CodeLeafData},
		"record_path": {func(r *wire.Receipt) {
			r.RecordPath = append([]chain.Hash{flip(r.RecordPath[0])},
				r.RecordPath[1:]...)
		}, CodeRecordPath},
		"seal_index": {func(r *wire.Receipt) { r.SealIndex++ }, CodeSealIndex},
		"seal_path": {func(r *wire.Receipt) {
			r.SealPath = append([]chain.Hash{flip(r.SealPath[0])},
				r.SealPath[1:]...)
		}, CodeSealPath},
		"tree_size":  {func(r *wire.Receipt) { r.TreeSize++ }, CodeTreeSize},
		"root":       {func(r *wire.Receipt) { r.Root = flip(r.Root) }, CodeRoot},
		"checkpoint": {func(r *wire.Receipt) { r.Checkpoint = "nothing\n" }, CodeCheckpoint},

		"header.version":    {func(r *wire.Receipt) { r.Header.Version++ }, CodeHeader},
		"header.block":      {func(r *wire.Receipt) { r.Header.Block++ }, CodeHeader},
		"header.first":      {func(r *wire.Receipt) { r.Header.First-- }, CodeHeader},
		"header.count":      {func(r *wire.Receipt) { r.Header.Count++ }, CodeHeader},
		"header.prev":       {func(r *wire.Receipt) { r.Header.Prev = flip(r.Header.Prev) }, CodeHeader},
		"header.root":       {func(r *wire.Receipt) { r.Header.Root = flip(r.Header.Root) }, CodeHeader},
		"header.time":       {func(r *wire.Receipt) { r.Header.Time-- }, CodeHeader},
		"header.difficulty": {func(r *wire.Receipt) { r.Header.Difficulty-- }, CodeHeader},
		"header.nonce":      {func(r *wire.Receipt) { r.Header.Nonce++ }, CodeHeader},
		"header.hash":       {func(r *wire.Receipt) { r.Header.Hash = flip(r.Header.Hash) }, CodeBlockHash},
	}
	for _, at := range []struct {
		prefix string
		t      reflect.Type
	}{{"", reflect.TypeFor[wire.Receipt]()}, {"header.", reflect.TypeFor[wire.Block]()}} {
		for i := range at.t.NumField() {
			name, _, _ := strings.Cut(at.t.Field(i).Tag.Get("json"), ",")
			if _, listed := alter[at.prefix+name]; !listed && name != "header" {
				t.Errorf("the field %q is not altered by this test", at.prefix+name)
			}
		}
	}
	for name, c := range alter {
		r := good
		c.change(&r)
		report := Receipt(mustJSON(t, r), l.trust(), payload)
		if codes(report.Findings) != c.want {
			t.Errorf("%s altered: %v, want %s", name, report.Findings, c.want)
		}
		if report.Good() {
			t.Errorf("%s altered: good", name)
		}
	}
}

// TestReceiptPayload changes one byte of the payload. The receipt must still be valid, and the mismatch of the payload
// must be the only finding.
func TestReceiptPayload(t *testing.T) {
	l, r, payload := receiptOf(t)
	data := mustJSON(t, r)
	if report := Receipt(data, l.trust(), nil); !report.Good() || report.Payload || len(report.Remarks) != 2 ||
		!strings.Contains(report.Remarks[1], "payload was not given") {
		t.Errorf("without a payload: %+v", report)
	}
	for i := range payload {
		changed := bytes.Clone(payload)
		changed[i] ^= 0x20
		report := Receipt(data, l.trust(), changed)
		if codes(report.Findings) != CodePayload ||
			!strings.Contains(report.Findings[0].Text, "the payload's commitment does not fit") || report.Payload {
			t.Errorf("byte %d: %v", i, report.Findings)
		}
	}
	for _, other := range [][]byte{{}, payload[1:], append(bytes.Clone(payload), 0)} {
		report := Receipt(data, l.trust(), other)
		if codes(report.Findings) != CodePayload || !strings.Contains(report.Findings[0].Text, fmt.Sprintf("has %d "+
			"bytes, and the record's has %d", len(other), len(payload))) {
			t.Errorf("%d bytes: %v", len(other), report.Findings)
		}
	}
}

// TestReceiptOfABadLog checks unmodified receipts of a log that signs invalid data.
func TestReceiptOfABadLog(t *testing.T) {
	l, r, payload := receiptOf(t)
	easy := r
	easy.Header.Difficulty = 250
	easy.Header.Hash = func() chain.Hash { h := easy.Header.Header(); return h.Hash() }()
	if report := Receipt(mustJSON(t, easy), l.trust(), payload); codes(report.Findings) != CodeWork {
		t.Errorf("no work: %v", report.Findings)
	}
	// A leaf of an earlier block in the tree.
	other := l.receipt(0, 1, l.sizes[3])
	mixed := r
	mixed.Index, mixed.Leaf, mixed.LeafData, mixed.RecordPath = other.Index, other.Leaf, other.LeafData,
		l.Path(r.Header.First+uint64(r.Header.Count), other.Index)
	if report := Receipt(mustJSON(t, mixed), l.trust(), nil); report.Good() ||
		!strings.Contains(codes(report.Findings), CodeRecordPath) {
		t.Errorf("a leaf of another block: %v", report.Findings)
	}
}

func TestReceiptSignatures(t *testing.T) {
	l, r, payload := receiptOf(t)
	successor, successorKey := signedlog.Key(l.Origin, 2)
	_, strangerKey := signedlog.Key("stranger", 3)
	w1, w1Key := testWitness(t, "witness1", 4)
	_, w2Key := testWitness(t, "witness2", 5)
	renamed := l.Checkpoint(r.TreeSize)
	both := l.Checkpoint(r.TreeSize, successor)
	witnessed := l.Checkpoint(r.TreeSize, w1)
	badSignature := func(signed string, name string) string {
		at := strings.Index(signed, "— "+name) + len("— "+name+" ") + 20
		return signed[:at] + string('A'+(signed[at]-'A'+1)%26) + signed[at+1:]
	}
	for _, c := range []struct {
		name       string
		checkpoint string
		keys       []string
		witnesses  []string
		quorum     int
		want       string
		words      string
	}{
		{"good", renamed, []string{l.VKey}, nil, 0, "", ""},
		{"two keys", both, []string{l.VKey, successorKey, l.VKey}, nil, 0, "", ""},
		{"the old key alone", both, []string{l.VKey}, nil, 0, "", ""},
		{"the new key alone", both, []string{successorKey}, nil, 0, "", ""},
		{"unknown", renamed, []string{successorKey}, nil, 0, CodeUnknownKey, "unknown key"},
		{"stranger", renamed, []string{strangerKey}, nil, 0, CodeUnknownKey, "stranger+"},
		{"no key", renamed, nil, nil, 0, CodeUnknownKey, "none was"},
		{"bad", badSignature(renamed, l.Origin), []string{l.VKey}, nil, 0, CodeSignature, "bad signature"},
		{"another size", strings.Replace(renamed, "\n15\n", "\n14\n", 1), []string{l.VKey}, nil, 0, CodeSignature,
			"bad signature"},
		{"another log", signedlog.Sign("another", r.TreeSize, r.Root, l.Signer), []string{l.VKey}, nil, 0,
			CodeOrigin + " " + CodeOrigin, "another"},
		{"no checkpoint", func() string {
			return strings.Replace(signedlog.Sign(l.Origin+"\nx", r.TreeSize, r.Root, l.Signer), "", "", 1)
		}(), []string{l.VKey}, nil, 0, CodeCheckpoint, "no checkpoint"},
		{"witness", witnessed, []string{l.VKey}, []string{w1Key, w2Key}, 1, "", ""},
		{"witness who is not asked", witnessed, []string{l.VKey}, nil, 0, "", ""},
		{"too few", witnessed, []string{l.VKey}, []string{w1Key, w2Key}, 2, CodeWitnesses, "1 of the witnesses"},
		{"bad witness", badSignature(witnessed, "witness1"), []string{l.VKey}, []string{w1Key}, 0, CodeCosignature,
			"witness1"},
	} {
		trust, err := NewTrust(c.keys, c.witnesses, c.quorum)
		if err != nil {
			t.Fatal(err)
		}
		changed := r
		changed.Checkpoint = c.checkpoint
		report := Receipt(mustJSON(t, changed), trust, payload)
		if codes(report.Findings) != c.want || c.want != "" && !strings.Contains(report.Findings[0].Text, c.words) {
			t.Errorf("%s: %v, want %s with %q", c.name, report.Findings, c.want, c.words)
		}
	}
}

func TestTrustRefused(t *testing.T) {
	_, vkey := signedlog.Key("log", 1)
	_, witnessKey := testWitness(t, "witness", 2)
	_, otherName := testWitness(t, "another", 2)
	_, ownWitness := testWitness(t, "log", 1)
	_, plainKey := signedlog.Key("witness", 2)
	logParts, witnessParts := strings.SplitN(vkey, "+", 3), strings.SplitN(witnessKey, "+", 3)
	if logParts[1] == strings.ToUpper(logParts[1]) || witnessParts[1] == strings.ToUpper(witnessParts[1]) {
		t.Fatal("these hashes have no letter")
	}
	for _, c := range []struct {
		keys, witnesses []string
		quorum          int
		want            string
	}{
		{[]string{"log"}, nil, 0, "malformed"},
		{[]string{strings.Replace(vkey, "log+", "lot+", 1)}, nil, 0, "hash"},
		{[]string{witnessKey}, nil, 0, "it is a witness's"},
		{nil, []string{"witness"}, 0, "witness"},
		{[]string{vkey}, []string{witnessKey, witnessKey}, 2, "the keys of 1 are named"},
		{[]string{vkey}, []string{strings.Replace(witnessKey, "witness+", "another+", 1)}, 0, "hash does not fit"},
		{[]string{vkey}, []string{witnessKey, otherName}, 2, "one public key"},
		{[]string{vkey}, []string{ownWitness}, 1, "one public key"},
		{[]string{vkey}, []string{plainKey}, 0, "it is a log's"},
		{[]string{vkey}, []string{witnessParts[0] + "+00000000+" + witnessParts[2]}, 0, "hash does not fit"},
		{[]string{vkey}, []string{witnessParts[0] + "+" + strings.ToUpper(witnessParts[1]) + "+" + witnessParts[2]}, 0,
			"not written as it should be"},
		{[]string{vkey}, []string{witnessParts[0] + "+" + witnessParts[1] + "+" + witnessParts[2][:10] + "\n" +
			witnessParts[2][10:]}, 0, "not written as it should be"},
		{[]string{logParts[0] + "+" + strings.ToUpper(logParts[1]) + "+" + logParts[2]}, nil, 0,
			"not written as it should be"},
		{[]string{logParts[0] + "+" + logParts[1] + "+" + logParts[2] + "\n"}, nil, 0, "not written as it should be"},
		{[]string{"log+00000000+?"}, nil, 0, "malformed"},
		{[]string{"log+00000000+" + base64.StdEncoding.EncodeToString([]byte{1, 2})}, nil, 0, "2 bytes"},
		{[]string{"log+00000000+" + base64.StdEncoding.EncodeToString(append([]byte{9}, make([]byte, 32)...))}, nil, 0,
			"0x09"},
		{[]string{vkey}, nil, -1, "are named"},
	} {
		if _, err := NewTrust(c.keys, c.witnesses, c.quorum); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q, %d: %v, want %q", c.keys, c.witnesses, c.quorum, err, c.want)
		}
	}
}

// TestReceiptForm checks that JSON that different parsers may interpret differently is refused.
func TestReceiptForm(t *testing.T) {
	l, r, _ := receiptOf(t)
	good := string(mustJSON(t, r))
	replace := func(old, new string) string {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q is there %d times", old, strings.Count(good, old))
		}
		return strings.Replace(good, old, new, 1)
	}
	short := base64.StdEncoding.EncodeToString(r.Salt[:15])
	for name, c := range map[string]struct{ data, want string }{
		"empty":           {"", "JSON"},
		"cut":             {good[:len(good)/2], "JSON"},
		"more behind":     {good + "{}", "more behind the object"},
		"unknown":         {replace(`"format":`, `"note":1,"format":`), `"note" that is not known`},
		"twice":           {replace(`"index":`, `"index":5,"index":`), `"index" twice`},
		"other case":      {replace(`"index":`, `"Index":`), `"Index" that is not known`},
		"missing":         {replace(`"index":7,`, ``), `lacks the field "index"`},
		"null":            {replace(`"index":7,`, `"index":null,`), `"index" is null`},
		"negative":        {replace(`"index":7,`, `"index":-7,`), "index"},
		"fraction":        {replace(`"index":7,`, `"index":7.5,`), "index"},
		"text":            {replace(`"index":7,`, `"index":"7",`), "index"},
		"list":            {replace(`"index":7,`, `"index":[[[[7]]]],`), "a list where none is due"},
		"object":          {replace(`"index":7,`, `"index":{"a":1},`), "an object where none is due"},
		"header unknown":  {replace(`"version":`, `"x":1,"version":`), `"x" that is not known`},
		"header twice":    {replace(`"version":`, `"version":1,"version":`), `"version" twice`},
		"nonce as number": {replace(fmt.Sprintf(`"nonce":"%d"`, r.Header.Nonce), `"nonce":1`), ",string"},
		"short salt": {replace(`"salt":"`+base64.StdEncoding.EncodeToString(r.Salt)+`"`, `"salt":"`+short+`"`),
			"salt has 15 bytes, not 16"},
		"bytes as a list": {replace(`"salt":"`+base64.StdEncoding.EncodeToString(r.Salt)+`"`,
			`"salt":[`+strings.Repeat("1,", 15)+`1]`), "a list where none is due"},
		"short leaf data": {replace(base64.StdEncoding.EncodeToString(r.LeafData), "AQID"),
			"leaf_data has 3 bytes, not 49"},
		"short hash": {replace(`"commit":"`, `"commit":"00`), "hex digits"},
		"no hex":     {replace(`"commit":"`+r.Commit.String()[:2], `"commit":"zz`), "not a hash"},
		"long path": {replace(`"record_path":[`, `"record_path":[`+strings.Repeat(`"`+r.Root.String()+`",`, 70)),
			"the limit is 64"},
		"larger than ever": {strings.Repeat(" ", MaxReceipt) + good, "the limit is"},
	} {
		report := Receipt([]byte(c.data), l.trust(), nil)
		if codes(report.Findings) != CodeFormat || !strings.Contains(report.Findings[0].Text, c.want) {
			t.Errorf("%s: %v, want %q", name, report.Findings, c.want)
		}
	}
}

// TestReceiptEachByte checks that every changed byte of a receipt without white space is detected.
func TestReceiptEachByte(t *testing.T) {
	l, r, payload := receiptOf(t)
	good := mustJSON(t, r)
	for i := range good {
		for _, bits := range []byte{1, 2, 4, 0x20, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bits
			if report := Receipt(bad, l.trust(), payload); report.Good() {
				t.Errorf("byte %d: %q is good", i, bad[max(0, i-12):min(len(bad), i+3)])
			}
		}
	}
}

// TestReceiptFlips checks that a receipt with any changed byte is invalid, or has the same meaning.
func TestReceiptFlips(t *testing.T) {
	l, r, payload := receiptOf(t)
	data := mustJSON(t, r)
	random := testRand(1)
	for n := range 6_000 {
		flipped := bytes.Clone(data)
		for range 1 + n%2 {
			flipped[random.IntN(len(data))] ^= 1 << random.IntN(8)
		}
		report := Receipt(flipped, l.trust(), payload)
		if !report.Good() {
			continue
		}
		parsed, _, err := parseReceipt(flipped)
		parsed.Checkpoint = r.Checkpoint // the last bits of a base64 text are ignored
		if err != nil || !reflect.DeepEqual(parsed, r) {
			t.Fatalf("good: %s", flipped)
		}
	}
}

func TestTlogProof(t *testing.T) {
	l, r, _ := receiptOf(t)
	p := proof.TLogProof{Index: r.Index, Checkpoint: []byte(r.Checkpoint)}
	for _, h := range l.Path(r.TreeSize, r.Index) {
		p.Hashes = append(p.Hashes, h)
	}
	data := p.Marshal()
	if !IsTlogProof(data) || IsTlogProof(mustJSON(t, r)) {
		t.Error("a proof is not told from a receipt")
	}
	report := TlogProof(data, l.trust(), r.Leaf)
	if !report.Good() || report.Index != r.Index || report.Checkpoint.Size != r.TreeSize {
		t.Errorf("%+v", report)
	}
	_, other := signedlog.Key(l.Origin, 9)
	stranger, err := NewTrust([]string{other}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		data  []byte
		trust Trust
		leaf  chain.Hash
		want  string
	}{
		{"leaf", data, l.trust(), flip(r.Leaf), CodeRecordPath},
		{"index", bytes.Replace(data, []byte("index 7\n"), []byte("index 6\n"), 1), l.trust(), r.Leaf, CodeRecordPath},
		{"size", bytes.Replace(data, []byte("\n15\n"), []byte("\n16\n"), 1), l.trust(), r.Leaf, CodeSignature},
		{"key", data, stranger, r.Leaf, CodeUnknownKey},
		{"cut", data[:60], l.trust(), r.Leaf, CodeFormat},
		{"no checkpoint", bytes.SplitAfter(data, []byte("\n\n"))[0], l.trust(), r.Leaf, CodeCheckpoint},
		{"line ends", bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")), l.trust(), r.Leaf, CodeFormat},
		{"zeros", bytes.Replace(data, []byte("index 7"), []byte("index 0007"), 1), l.trust(), r.Leaf, CodeFormat},
		{"no last line end", bytes.TrimSuffix(data, []byte("\n")), l.trust(), r.Leaf, CodeFormat},
		{"large", append(data, make([]byte, MaxReceipt)...), l.trust(), r.Leaf, CodeFormat},
	} {
		if report := TlogProof(c.data, c.trust, c.leaf); codes(report.Findings) != c.want {
			t.Errorf("%s: %v, want %s", c.name, report.Findings, c.want)
		}
	}
	random := testRand(2)
	for range 5000 {
		flipped := bytes.Clone(data)
		flipped[random.IntN(len(data))] ^= 1 << random.IntN(8)
		if report := TlogProof(flipped, l.trust(), r.Leaf); report.Good() && report.Index != r.Index {
			t.Fatalf("good: %s", flipped)
		}
	}
}

// FuzzReceipt checks that no receipt makes the check panic, and that only receipts with the same meaning as the valid
// one are accepted.
func FuzzReceipt(f *testing.F) {
	l, r, payload := receiptOf(f)
	trust := l.trust()
	f.Add(mustJSON(f, r))
	f.Add(mustJSON(f, map[string]any{"block": r.Block, "receipt": r}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if report := Receipt(data, trust, payload); !report.Good() {
			return
		}
		parsed, _, err := parseReceipt(data)
		if parsed.Checkpoint = r.Checkpoint; err != nil || !reflect.DeepEqual(parsed, r) {
			t.Errorf("good: %s", data)
		}
	})
}
