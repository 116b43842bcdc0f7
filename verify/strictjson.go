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
	if err := checkValue(bytes.TrimSpace(data), reflect.TypeOf(into).Elem(), "what should be one object"); err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// checkValue compares the names in a value with the type that it is for.
func checkValue(data []byte, t reflect.Type, where string) error {
	switch {
	case len(data) == 0:
		return io.ErrUnexpectedEOF
	case string(data) == "null":
		return fmt.Errorf("%s is null", where)
	case data[0] == '{':
		return checkObject(data, t, where)
	case data[0] == '[':
		if t.Kind() != reflect.Slice || t == reflect.TypeFor[[]byte]() {
			return fmt.Errorf("%s holds a list where none is due", where)
		}
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); err != nil {
			return err
		}
		for _, value := range list {
			if err := checkValue(value, t.Elem(), where); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Struct:
		return fmt.Errorf("%s is no object", where)
	case data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
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

func checkObject(data []byte, t reflect.Type, where string) error {
	if t.Kind() != reflect.Struct {
		return fmt.Errorf("%s holds an object where none is due", where)
	}
	due := namesOf(t)
	fields, err := members(data, func(name string) string { return name })
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field, known := due[name]
		if !known {
			return fmt.Errorf("%s has a field %q that is not known", where, name)
		}
		if err := checkValue(fields[name], field, fmt.Sprintf("field %q", name)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(due)) {
		if _, given := fields[name]; !given {
			return fmt.Errorf("%s lacks the field %q", where, name)
		}
	}
	return nil
}

// members returns the fields of one JSON object by their names in the form that fold gives them. No two may have one
// name.
func members(data []byte, fold func(name string) string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if token, err := d.Token(); err != nil {
		return nil, err
	} else if token != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		name = fold(name)
		if _, twice := fields[name]; twice {
			return nil, fmt.Errorf("it has the field %q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		fields[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more behind the object")
	}
	return fields, nil
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
