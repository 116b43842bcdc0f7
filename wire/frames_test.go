package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type frame struct{ key, typ, payload string }

func parseAll(data []byte) ([]frame, error) {
	var frames []frame
	err := ParseFrames(data, func(key, typ, payload []byte) error {
		frames = append(frames, frame{string(key), string(typ), string(payload)})
		return nil
	})
	return frames, err
}

func TestFramesComeBackAsTheyWent(t *testing.T) {
	sent := []frame{
		{"", "", "x"}, {"key", "text/plain", "hello"}, {strings.Repeat("k", 255), strings.Repeat("t", 255), ""},
		{"", "", strings.Repeat("p", 70_000)},
	}
	var data []byte
	for _, f := range sent {
		data = AppendFrame(data, f.key, f.typ, []byte(f.payload))
	}
	got, err := parseAll(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(sent) {
		t.Fatalf("%d frames, sent %d", len(got), len(sent))
	}
	for i := range sent {
		if got[i] != sent[i] {
			t.Errorf("frame %d came back otherwise", i)
		}
	}
	want := []byte{3, 2, 0, 0, 0, 5, 'k', 'e', 'y', 't', 'p', 'h', 'e', 'l', 'l', 'o'}
	if b := AppendFrame(nil, "key", "tp", []byte("hello")); !bytes.Equal(b, want) {
		t.Errorf("bytes %v, want %v", b, want)
	}
}

func TestParseFramesRefusesWhatIsMalformed(t *testing.T) {
	good := AppendFrame(nil, "key", "type", []byte("payload"))
	for n := 1; n < len(good); n++ {
		if _, err := parseAll(good[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := parseAll([]byte{0, 0, 0xff, 0xff, 0xff, 0xff}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a payload of 4 GiB: %v", err)
	}
	if frames, err := parseAll(nil); err != nil || len(frames) != 0 {
		t.Errorf("nothing: %v, %v", frames, err)
	}
}

func TestParseFramesEndsWithTheCallersError(t *testing.T) {
	data := AppendFrame(AppendFrame(nil, "", "", []byte("a")), "", "", []byte("b"))
	enough := errors.New("enough")
	calls := 0
	err := ParseFrames(data, func(_, _, _ []byte) error { calls++; return enough })
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestParseFramesPartsDoNotReachIntoEachOther(t *testing.T) {
	data := AppendFrame(nil, "key", "type", []byte("payload"))
	before := bytes.Clone(data)
	err := ParseFrames(data, func(key, typ, payload []byte) error {
		_, _, _ = append(key, '!'), append(typ, '!'), append(payload, '!')
		return nil
	})
	if err != nil || !bytes.Equal(data, before) {
		t.Errorf("%v; the data was changed: %v", err, !bytes.Equal(data, before))
	}
}

func FuzzParseFrames(f *testing.F) {
	f.Add(AppendFrame(AppendFrame(nil, "k", "t", []byte("p")), "", "", nil))
	f.Add([]byte{1, 1, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, err := parseAll(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, fr := range frames {
			again = AppendFrame(again, fr.key, fr.typ, []byte(fr.payload))
		}
		if !bytes.Equal(again, data) {
			t.Fatal("what was read does not write the same bytes")
		}
	})
}
