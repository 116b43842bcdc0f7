package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
)

// decodeStrict reads one JSON object into a struct. It refuses what encoding/json accepts: names that are repeated,
// differ in case or are missing, null, a second spelling of the same bytes, and anything after the object. So every
// JSON reader reads the same fields. White space, the order of fields and the escapes of JSON are free.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, reflect.TypeOf(into).Elem(), "what should be one object"); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errMore
	}
	return json.Unmarshal(data, into)
}

var errMore = errors.New("there is more behind the object")

// checkValue reads one value and compares the names in it with the type that it is for.
func checkValue(d *json.Decoder, t reflect.Type, where string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch {
	case token == nil:
		return fmt.Errorf("%s is null", where)
	case token == json.Delim('['):
		if t.Kind() != reflect.Slice {
			return fmt.Errorf("%s holds a list where none is due", where)
		}
		for d.More() {
			if err := checkValue(d, t.Elem(), where); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return err
	case token == json.Delim('{'):
		return checkObject(d, t, where)
	case t.Kind() == reflect.Struct:
		return fmt.Errorf("%s is no object", where)
	}
	if text, isText := token.(string); isText {
		return checkText(text, t, where)
	}
	return nil
}

// checkText refuses a second spelling of the same bytes: hex digits in upper case, base64 with line ends or with unused
// bits.
func checkText(text string, t reflect.Type, where string) error {
	switch t {
	case reflect.TypeFor[chain.Hash]():
		if text != strings.ToLower(text) {
			return fmt.Errorf("%s has hex digits in upper case", where)
		}
	case reflect.TypeFor[[]byte]():
		if data, err := base64.StdEncoding.DecodeString(text); err == nil &&
			base64.StdEncoding.EncodeToString(data) != text {
			return fmt.Errorf("%s is not written as base64 is: its bytes are %q", where,
				base64.StdEncoding.EncodeToString(data))
		}
	}
	return nil
}

func checkObject(d *json.Decoder, t reflect.Type, where string) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("%s holds an object where none is due", where)
	}
	due := namesOf(t)
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		field, known := due[name]
		switch {
		case !known:
			return fmt.Errorf("%s has a field %q that is not known", where, name)
		case seen[name]:
			return fmt.Errorf("%s has the field %q twice", where, name)
		}
		seen[name] = true
		if err := checkValue(d, field, fmt.Sprintf("field %q", name)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(due)) {
		if !seen[name] {
			return fmt.Errorf("%s lacks the field %q", where, name)
		}
	}
	_, err := d.Token()
	return err
}

// namesOf returns the JSON names of a struct's fields, and their types.
func namesOf(t reflect.Type) map[string]reflect.Type {
	names := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names[name] = t.Field(i).Type
	}
	return names
}
