package api

import "encoding/json"

// FilterValue is what a filter selects by: a text, or of labels a list.
type FilterValue struct {
	Text string
	List []string // not nil for a list
}

// MarshalJSON writes a text, or a list.
func (v FilterValue) MarshalJSON() ([]byte, error) {
	if v.List != nil {
		return json.Marshal(v.List)
	}
	return json.Marshal(v.Text)
}

// UnmarshalJSON reads what MarshalJSON writes. Null is the empty text.
func (v *FilterValue) UnmarshalJSON(b []byte) error {
	*v = FilterValue{}
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, &v.List)
	}
	return json.Unmarshal(b, &v.Text)
}
