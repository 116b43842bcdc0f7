package records

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
)

// readLines reads an input to its end.
func readLines(in io.Reader, limit int, keep bool) (payloads []string, r *lineReader, size int64, err error) {
	r = newLineReader(in, limit, keep)
	for {
		payload, err := r.next()
		if err != nil {
			return payloads, r, size, err
		}
		payloads = append(payloads, string(payload))
		size += r.size
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	tests := []struct {
		name, in string
		keep     bool
		want     []string
		skipped  int64
	}{
		{name: "empty", in: ""},
		{name: "lines", in: "a\nb\n", want: []string{"a", "b"}},
		{name: "no line feed at the end", in: "a\nb", want: []string{"a", "b"}},
		{name: "carriage returns", in: "a\r\nb\r\n", want: []string{"a", "b"}},
		{name: "one carriage return only", in: "a\r\r\n\r\r\nb\rc\n", want: []string{"a\r", "\r", "b\rc"}},
		{name: "carriage return at the end stays", in: "a\r", want: []string{"a\r"}},
		{name: "empty lines", in: "\n\r\na\n\nb\n\n", want: []string{"a", "b"}, skipped: 4},
		{name: "only empty lines", in: "\n\n", skipped: 2},
		{name: "spaces are content", in: " \n", want: []string{" "}},
		{name: "zero bytes and bad UTF-8", in: "\x00\xff\n", want: []string{"\x00\xff"}},
		{name: "keep", in: "a\r\n\nb", keep: true, want: []string{"a\r\n", "\n", "b"}},
		{name: "long lines", in: long + "\r\n" + long, want: []string{long, long}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(test.in),
				iotest.OneByteReader(strings.NewReader(test.in))} {
				got, r, _, err := readLines(in, 1<<20, test.keep)
				if !errors.Is(err, io.EOF) || !slices.Equal(got, test.want) || r.skipped != test.skipped {
					t.Errorf("got %.60q, %d skipped, %v; want %.60q, %d skipped", got, r.skipped, err, test.want,
						test.skipped)
				}
			}
		})
	}
}

func TestLineReaderLimit(t *testing.T) {
	for _, limit := range []int{3, 64 << 10, 128<<10 + 1} {
		fits := strings.Repeat("x", limit)
		for _, end := range []string{"\n", "\r\n", ""} {
			if got, _, _, err := readLines(strings.NewReader(fits+end), limit, false); !errors.Is(err, io.EOF) ||
				len(got) != 1 || got[0] != fits {
				t.Errorf("limit %d, line of that length with end %q: %d lines, %v", limit, end, len(got), err)
			}
			got, _, _, err := readLines(strings.NewReader("a\n"+fits+"y"+end+"\nb\n"), limit, false)
			if len(got) != 1 {
				t.Errorf("limit %d: %d lines before the one that is too long, not 1", limit, len(got))
			}
			clitest.MustFail(t, err, "line 2 has more than")
		}
	}
}

func TestLineReaderError(t *testing.T) {
	broken := errors.New("disk on fire")
	in := io.MultiReader(strings.NewReader("a\nhalf"), iotest.ErrReader(broken))
	got, _, _, err := readLines(in, 100, false)
	if !slices.Equal(got, []string{"a"}) || !errors.Is(err, broken) {
		t.Errorf("got %q, %v: half a line is no record, and the error is the reader's", got, err)
	}
	clitest.MustFail(t, err, "read line 2: ")
}

// FuzzLineReader compares the reader with another implementation of its rules. The limit is that of the longest line.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\r\n\nb\r"), false)
	f.Add([]byte("\r\r\n"), true)
	f.Add([]byte("longer than the buffer\r\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, keep bool) {
		var want []string
		skipped := int64(0)
		for _, line := range strings.SplitAfter(string(data), "\n") {
			stripped := line
			if !keep {
				if strings.HasSuffix(line, "\r\n") {
					stripped = line[:len(line)-2]
				} else {
					stripped = strings.TrimSuffix(line, "\n")
				}
			}
			if stripped != "" {
				want = append(want, stripped)
			} else if line != "" {
				skipped++
			}
		}
		got, r, size, err := readLines(bytes.NewReader(data), len(data), keep)
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) || r.skipped != skipped {
			t.Fatalf("got %q, %d skipped, %v; want %q, %d skipped", got, r.skipped, err, want, skipped)
		}
		if skipped == 0 && size != int64(len(data)) {
			t.Fatalf("%d bytes accounted for, of %d", size, len(data))
		}
	})
}

func TestStoppable(t *testing.T) {
	data := strings.Repeat("0123456789", 50_000)
	got, err := io.ReadAll(newStoppable(t.Context(), iotest.HalfReader(strings.NewReader(data))))
	if err != nil || string(got) != data {
		t.Fatalf("%d bytes, %v; want the %d that were written", len(got), err, len(data))
	}

	in, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	s := newStoppable(ctx, in)
	if _, err := w.Write([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if n, err := s.Read(buf); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	cancel() // the pipe stays open: only the cancellation ends the read
	if _, err := s.Read(buf); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
