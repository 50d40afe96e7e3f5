// Package secret finds the values that a mode's references stand for, takes
// generated ones to where they belong, and keeps both out of every output.
//
// Start with [New]: a [Resolver] resolves a reference by the rules of the host
// file ([Resolver.Resolve]), tells what is at hand without running anything
// ([Resolver.AtHand]), and delivers ([Resolver.Deliver]). [Value] carries a
// secret through code that may print what it is given.
//
// The host file decides what a mode may reach: names of variables,
// directories, commands. No error of this package holds a secret, nor what a
// command wrote.
package secret

import (
	"fmt"
	"log/slog"
)

const redacted = "(secret)"

// Value holds a secret that prints as "(secret)" in every format. Inside an
// unexported field, where package fmt asks no methods, it prints as an address.
type Value struct{ text *string }

// NewValue wraps a secret.
func NewValue(text string) Value { return Value{&text} }

// Reveal returns the secret itself; "" for the zero Value.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// String prints "(secret)".
func (Value) String() string { return redacted }

// GoString prints "(secret)".
func (Value) GoString() string { return redacted }

// Format prints "(secret)" whatever the verb.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalJSON writes "(secret)".
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText writes "(secret)".
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue logs "(secret)".
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
