// JavaScript values to and from the dispatcher's IValues, by the operator's own schema.
#include "bridge.h"

#include <ATen/core/List.h>

#include <cmath>
#include <cstdio>

namespace tessera {

namespace {

// A list longer than this is a mistake (or an attack): no operator takes a million values one by one.
constexpr uint32_t kMaxListLength = 1u << 20;
constexpr double kMaxSafeInteger = 9007199254740991.0;

struct DtypeName {
    at::ScalarType type;
    const char* name;
};

constexpr DtypeName kDtypes[] = {
    {at::kFloat, "float32"}, {at::kDouble, "float64"}, {at::kHalf, "float16"}, {at::kBFloat16, "bfloat16"}, {at::kByte, "uint8"},
    {at::kChar, "int8"},     {at::kShort, "int16"},    {at::kInt, "int32"},    {at::kLong, "int64"},        {at::kBool, "bool"},
    {at::kComplexFloat, "complex64"}, {at::kComplexDouble, "complex128"},
};

napi_valuetype typeOf(napi_env env, napi_value value) {
    napi_valuetype type;
    check(napi_typeof(env, value, &type));
    return type;
}

// dtype, layout and memory format are ints to the dispatcher, which does not check them; people write their names. Sparse, quantised and
// vendor layouts cannot be asked for: dense operators do not all refuse them, and what they do instead may end the process.
bool memoryFormatFromName(const std::string& name, at::MemoryFormat& out) {
    if (name == "contiguousFormat") return out = at::MemoryFormat::Contiguous, true;
    if (name == "preserveFormat") return out = at::MemoryFormat::Preserve, true;
    if (name == "channelsLast") return out = at::MemoryFormat::ChannelsLast, true;
    if (name == "channelsLast3d") return out = at::MemoryFormat::ChannelsLast3d, true;
    return false;
}

[[noreturn]] void mismatch(napi_env env, napi_value value, const ArgumentSpec& spec, const char* expected) {
    badArgument("argument '" + spec.name + "' (" + spec.type + ") expects " + expected + ", got " + kindOf(env, value));
}

bool readInt(napi_env env, napi_value value, napi_valuetype type, int64_t& out) {
    if (type == napi_number) {
        double d;
        check(napi_get_value_double(env, value, &d));
        if (!(std::trunc(d) == d) || std::fabs(d) > kMaxSafeInteger) return false;
        out = static_cast<int64_t>(d);
        return true;
    }
    if (type == napi_bigint) {
        bool lossless = false;
        check(napi_get_value_bigint_int64(env, value, &out, &lossless));
        return lossless;
    }
    return false;
}

int64_t toInt(napi_env env, napi_value value, const ArgumentSpec& spec) {
    int64_t out;
    if (!readInt(env, value, typeOf(env, value), out)) mismatch(env, value, spec, "an integer");
    return out;
}

int64_t toDType(napi_env env, napi_value value, const ArgumentSpec& spec) {
    at::ScalarType type;
    if (typeOf(env, value) != napi_string || !dtypeFromName(utf8(env, value), type)) mismatch(env, value, spec, "the name of a dtype");
    return static_cast<int64_t>(type);
}

int64_t toLayout(napi_env env, napi_value value, const ArgumentSpec& spec) {
    if (typeOf(env, value) != napi_string || utf8(env, value) != "strided") mismatch(env, value, spec, "\"strided\"");
    return static_cast<int64_t>(at::kStrided);
}

int64_t toMemoryFormat(napi_env env, napi_value value, const ArgumentSpec& spec) {
    at::MemoryFormat format;
    if (typeOf(env, value) != napi_string || !memoryFormatFromName(utf8(env, value), format))
        mismatch(env, value, spec, "\"contiguousFormat\", \"preserveFormat\", \"channelsLast\" or \"channelsLast3d\"");
    return static_cast<int64_t>(format);
}

double toFloat(napi_env env, napi_value value, const ArgumentSpec& spec) {
    if (typeOf(env, value) != napi_number) mismatch(env, value, spec, "a number");
    double d;
    check(napi_get_value_double(env, value, &d));
    return d;
}

bool toBool(napi_env env, napi_value value, const ArgumentSpec& spec) {
    if (typeOf(env, value) != napi_boolean) mismatch(env, value, spec, "true or false");
    bool b;
    check(napi_get_value_bool(env, value, &b));
    return b;
}

// JavaScript has one kind of number: a whole one becomes an integer scalar (it promotes to floating point where the tensor is).
bool readScalar(napi_env env, napi_value value, at::Scalar& out) {
    napi_valuetype type = typeOf(env, value);
    if (type == napi_boolean) {
        bool b;
        check(napi_get_value_bool(env, value, &b));
        out = at::Scalar(b);
        return true;
    }
    int64_t i;
    if (readInt(env, value, type, i)) {
        double d = 0;
        if (type == napi_number) check(napi_get_value_double(env, value, &d));
        out = (i == 0 && std::signbit(d)) ? at::Scalar(-0.0) : at::Scalar(i);
        return true;
    }
    if (type == napi_number) {
        double d;
        check(napi_get_value_double(env, value, &d));
        out = at::Scalar(d);
        return true;
    }
    return false;
}

at::Scalar toScalar(napi_env env, napi_value value, const ArgumentSpec& spec) {
    at::Scalar out;
    if (!readScalar(env, value, out)) mismatch(env, value, spec, "a number");
    return out;
}

// As in PyTorch, a number where a tensor is expected is a zero-dimensional tensor that does not take part in type promotion.
at::Tensor toTensor(napi_env env, napi_value value, const ArgumentSpec& spec) {
    napi_valuetype type = typeOf(env, value);
    if (TensorBox* box = boxOf(env, value, type)) return box->disposed ? tensorOf(env, value, spec.name.c_str()) : box->tensor;
    at::Scalar scalar;
    if (type != napi_number || !readScalar(env, value, scalar)) mismatch(env, value, spec, "a Tensor");
    at::ScalarType dtype = scalar.isFloatingPoint() ? at::kDouble : at::kLong;
    at::Tensor tensor = at::scalar_tensor(scalar, at::TensorOptions().dtype(dtype));
    tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
    return tensor;
}

bool isArray(napi_env env, napi_value value) {
    bool array = false;
    check(napi_is_array(env, value, &array));
    return array;
}

template <class Each>
void eachElement(napi_env env, napi_value value, const std::string& what, Each each) {
    uint32_t length;
    check(napi_get_array_length(env, value, &length));
    if (length > kMaxListLength)
        badArgument(what + " has " + std::to_string(length) + " elements, at most " + std::to_string(kMaxListLength) + " are taken");
    for (uint32_t i = 0; i < length; ++i) {
        napi_value element;
        check(napi_get_element(env, value, i, &element));
        each(element);
    }
}

// int[4] is read by its kernel without a look at the list's length. Only int[1] is a list of any length; and where the default is shorter
// (stride=[]) that has a meaning.
void checkLength(size_t length, const ArgumentSpec& spec) {
    if (spec.fixedLength < 2 || length == 1 || length == static_cast<size_t>(spec.fixedLength)) return;
    if (spec.hasDefault && spec.defaultValue.isList() && spec.defaultValue.toListRef().size() == length) return;
    badArgument("argument '" + spec.name + "' (" + spec.type + ") expects " + std::to_string(spec.fixedLength) + " elements, got " +
                std::to_string(length));
}

template <class T, class Convert>
c10::IValue toList(napi_env env, napi_value value, const ArgumentSpec& spec, Convert convert, const char* expected) {
    c10::List<T> list;
    if (isArray(env, value)) {
        eachElement(env, value, "argument '" + spec.name + "'", [&](napi_value element) { list.push_back(convert(env, element, spec)); });
        checkLength(list.size(), spec);
        // As a single number does, a list of one stands for all.
        if (list.size() == 1)
            for (int32_t i = 1; i < spec.fixedLength; ++i) list.push_back(list.get(0));
    } else if (spec.fixedLength > 0 && typeOf(env, value) == napi_number) {
        T single = convert(env, value, spec);
        for (int32_t i = 0; i < spec.fixedLength; ++i) list.push_back(single);
    } else {
        mismatch(env, value, spec, expected);
    }
    return c10::IValue(std::move(list));
}

Kind kindOfType(const c10::Type& type) {
    switch (type.kind()) {
        case c10::TypeKind::TensorType: return Kind::Tensor;
        case c10::TypeKind::NumberType: return Kind::Scalar;
        case c10::TypeKind::IntType:
        case c10::TypeKind::SymIntType: return Kind::Int;
        case c10::TypeKind::ScalarTypeType: return Kind::DType;
        case c10::TypeKind::LayoutType: return Kind::Layout;
        case c10::TypeKind::MemoryFormatType: return Kind::MemoryFormat;
        case c10::TypeKind::FloatType: return Kind::Float;
        case c10::TypeKind::BoolType: return Kind::Bool;
        case c10::TypeKind::StringType: return Kind::String;
        case c10::TypeKind::DeviceObjType: return Kind::Device;
        case c10::TypeKind::GeneratorType: return Kind::Generator;
        default: return Kind::Unsupported;
    }
}

Kind listKind(const c10::Type& element) {
    if (element.kind() == c10::TypeKind::OptionalType) {
        auto inner = static_cast<const c10::OptionalType&>(element).getElementType();
        return inner->kind() == c10::TypeKind::TensorType ? Kind::OptionalTensorList : Kind::Unsupported;
    }
    switch (kindOfType(element)) {
        case Kind::Tensor: return Kind::TensorList;
        case Kind::Scalar: return Kind::ScalarList;
        case Kind::Int: return Kind::IntList;
        case Kind::Float: return Kind::FloatList;
        case Kind::Bool: return Kind::BoolList;
        case Kind::String: return Kind::StringList;
        default: return Kind::Unsupported;
    }
}

}  // namespace

const char* dtypeName(at::ScalarType type) {
    for (const auto& entry : kDtypes)
        if (entry.type == type) return entry.name;
    return c10::toString(type);
}

bool dtypeFromName(const std::string& name, at::ScalarType& type) {
    for (const auto& entry : kDtypes)
        if (name == entry.name) return type = entry.type, true;
    return false;
}

c10::Device deviceFromName(const std::string& name) {
    if (name == "cpu") return c10::Device(at::kCPU);
    if (name == "cuda") return c10::Device(at::kCUDA);
    if (name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() < 8 && name.find_first_not_of("0123456789", 5) == std::string::npos)
        return c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(std::stoi(name.substr(5))));
    badArgument("unknown device \"" + (name.size() > 40 ? name.substr(0, 40) + "..." : name) + "\": expected \"cpu\", \"cuda\" or \"cuda:N\"");
}

ArgumentSpec specOf(const c10::Argument& argument) {
    ArgumentSpec spec;
    spec.name = argument.name();
    auto type = argument.real_type();
    spec.type = type->str();
    if (argument.N()) spec.fixedLength = *argument.N();
    if (type->kind() == c10::TypeKind::OptionalType) {
        spec.optional = true;
        type = type->castRaw<c10::OptionalType>()->getElementType();
    }
    spec.kind = type->kind() == c10::TypeKind::ListType ? listKind(*type->castRaw<c10::ListType>()->getElementType()) : kindOfType(*type);
    if (argument.default_value()) {
        spec.hasDefault = true;
        spec.defaultValue = *argument.default_value();
    }
    return spec;
}

c10::IValue toIValue(napi_env env, napi_value value, const ArgumentSpec& spec) {
    napi_valuetype type = typeOf(env, value);
    if (type == napi_undefined && spec.hasDefault) return spec.defaultValue;
    if (type == napi_null || type == napi_undefined) {
        if (spec.optional) return c10::IValue();
        if (type == napi_undefined) badArgument("argument '" + spec.name + "' (" + spec.type + ") is missing");
        badArgument("argument '" + spec.name + "' (" + spec.type + ") cannot be null");
    }
    switch (spec.kind) {
        case Kind::Tensor: return toTensor(env, value, spec);
        case Kind::TensorList: return toList<at::Tensor>(env, value, spec, toTensor, "an array of Tensors");
        case Kind::OptionalTensorList: {
            c10::List<Optional<at::Tensor>> list;
            if (!isArray(env, value)) mismatch(env, value, spec, "an array of Tensors and nulls");
            eachElement(env, value, "argument '" + spec.name + "'", [&](napi_value element) {
                napi_valuetype t = typeOf(env, element);
                if (t == napi_null) list.push_back(Optional<at::Tensor>());
                else list.push_back(toTensor(env, element, spec));
            });
            return c10::IValue(std::move(list));
        }
        case Kind::Scalar: return c10::IValue(toScalar(env, value, spec));
        case Kind::ScalarList: {
            c10::impl::GenericList list(c10::NumberType::get());
            if (!isArray(env, value)) mismatch(env, value, spec, "an array of numbers");
            eachElement(env, value, "argument '" + spec.name + "'",
                        [&](napi_value element) { list.push_back(c10::IValue(toScalar(env, element, spec))); });
            return c10::IValue(std::move(list));
        }
        case Kind::Int: return c10::IValue(toInt(env, value, spec));
        case Kind::IntList: return toList<int64_t>(env, value, spec, toInt, "an array of integers");
        case Kind::DType: return c10::IValue(toDType(env, value, spec));
        case Kind::Layout: return c10::IValue(toLayout(env, value, spec));
        case Kind::MemoryFormat: return c10::IValue(toMemoryFormat(env, value, spec));
        case Kind::Float: return c10::IValue(toFloat(env, value, spec));
        case Kind::FloatList: return toList<double>(env, value, spec, toFloat, "an array of numbers");
        case Kind::Bool: return c10::IValue(toBool(env, value, spec));
        case Kind::BoolList: return toList<bool>(env, value, spec, toBool, "an array of booleans");
        case Kind::String:
            if (type != napi_string) mismatch(env, value, spec, "a string");
            return c10::IValue(utf8(env, value));
        case Kind::StringList: {
            c10::List<std::string> list;
            if (!isArray(env, value)) mismatch(env, value, spec, "an array of strings");
            eachElement(env, value, "argument '" + spec.name + "'", [&](napi_value element) {
                if (typeOf(env, element) != napi_string) mismatch(env, element, spec, "strings");
                list.push_back(utf8(env, element));
            });
            return c10::IValue(std::move(list));
        }
        case Kind::Device:
            if (type != napi_string) mismatch(env, value, spec, "a device name such as \"cpu\" or \"cuda:0\"");
            return c10::IValue(deviceFromName(utf8(env, value)));
        case Kind::Generator: {
            GeneratorBox* box = generatorOf(env, value);
            if (!box) mismatch(env, value, spec, "a Generator");
            return c10::IValue(box->generator);
        }
        case Kind::Unsupported: break;
    }
    badArgument("argument '" + spec.name + "' has the type " + spec.type + ", which cannot be given from JavaScript");
}

napi_value toJs(napi_env env, const c10::IValue& value) {
    napi_value out = nullptr;
    if (value.isNone()) {
        check(napi_get_null(env, &out));
    } else if (value.isTensor()) {
        return wrapTensor(env, value.toTensor());
    } else if (value.isBool()) {
        check(napi_get_boolean(env, value.toBool(), &out));
    } else if (value.isInt()) {
        int64_t i = value.toInt();
        if (std::abs(static_cast<double>(i)) <= kMaxSafeInteger) check(napi_create_double(env, static_cast<double>(i), &out));
        else check(napi_create_bigint_int64(env, i, &out));
    } else if (value.isDouble()) {
        check(napi_create_double(env, value.toDouble(), &out));
    } else if (value.isComplexDouble()) {
        auto z = value.toComplexDouble();
        check(napi_create_object(env, &out));
        check(napi_set_named_property(env, out, "re", makeNumber(env, z.real())));
        check(napi_set_named_property(env, out, "im", makeNumber(env, z.imag())));
    } else if (value.isString()) {
        return makeString(env, value.toStringRef());
    } else if (value.isDevice()) {
        return makeString(env, value.toDevice().str());
    } else if (value.isList() || value.isTuple()) {
        if (value.isList() && value.toListRef().size() > kMaxListLength)
            badArgument("the result is a list of " + std::to_string(value.toListRef().size()) + ", more than the " + std::to_string(kMaxListLength) +
                        " handles that are made at once");
        const auto elements = value.isList() ? value.toListRef().vec() : std::vector<c10::IValue>(value.toTupleRef().elements().begin(), value.toTupleRef().elements().end());
        check(napi_create_array_with_length(env, elements.size(), &out));
        for (size_t i = 0; i < elements.size(); ++i) check(napi_set_element(env, out, i, toJs(env, elements[i])));
    } else {
        badArgument("internal: a result of kind " + value.tagKind() + " has no JavaScript form");
    }
    return out;
}

std::string kindOf(napi_env env, napi_value value) {
    TensorBox* box = boxOf(env, value);
    if (box) return box->disposed ? "a disposed Tensor" : "a Tensor";
    if (generatorOf(env, value)) return "a Generator";
    napi_valuetype type = typeOf(env, value);
    switch (type) {
        case napi_undefined: return "undefined";
        case napi_null: return "null";
        case napi_boolean:
        case napi_number:
        case napi_bigint:
        case napi_string: return describe(env, value);
        case napi_function: return "a function";
        case napi_symbol: return "a symbol";
        default: return isArray(env, value) ? describe(env, value) : "an object";
    }
}

std::string describe(napi_env env, napi_value value) {
    if (TensorBox* box = boxOf(env, value)) {
        if (box->disposed) return "disposed Tensor";
        std::string text = dtypeName(box->tensor.scalar_type());
        text += "[";
        for (int64_t i = 0; i < box->tensor.dim(); ++i) text += (i ? ", " : "") + std::to_string(box->tensor.size(i));
        return text + "]";
    }
    switch (typeOf(env, value)) {
        case napi_undefined: return "undefined";
        case napi_null: return "null";
        case napi_boolean: {
            bool b;
            check(napi_get_value_bool(env, value, &b));
            return b ? "true" : "false";
        }
        case napi_number: {
            double d;
            check(napi_get_value_double(env, value, &d));
            char buffer[32];
            std::snprintf(buffer, sizeof buffer, "%.10g", d);
            return buffer;
        }
        case napi_bigint: {
            int64_t i;
            bool lossless = false;
            check(napi_get_value_bigint_int64(env, value, &i, &lossless));
            return lossless ? std::to_string(i) + "n" : "a bigint beyond 64 bits";
        }
        case napi_string: {
            std::string text = utf8(env, value);
            return "\"" + (text.size() > 40 ? text.substr(0, 40) + "..." : text) + "\"";
        }
        default: break;
    }
    if (!isArray(env, value)) return kindOf(env, value);
    uint32_t length;
    check(napi_get_array_length(env, value, &length));
    std::string text = "[";
    for (uint32_t i = 0; i < length && i < 8; ++i) {
        napi_value element;
        check(napi_get_element(env, value, i, &element));
        text += (i ? ", " : "") + (isArray(env, element) ? std::string("[...]") : describe(env, element));
    }
    if (length > 8) text += ", ... " + std::to_string(length) + " in all";
    return text + "]";
}

std::string utf8(napi_env env, napi_value value) {
    size_t length = 0;
    check(napi_get_value_string_utf8(env, value, nullptr, 0, &length));
    std::string text(length, '\0');
    check(napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
    return text;
}

double number(napi_env env, napi_value value, const char* what) {
    if (typeOf(env, value) != napi_number) badArgument(std::string(what) + " must be a number, got " + kindOf(env, value));
    double d;
    check(napi_get_value_double(env, value, &d));
    return d;
}

int64_t integer(napi_env env, napi_value value, const char* what) {
    int64_t out;
    if (!readInt(env, value, typeOf(env, value), out)) badArgument(std::string(what) + " must be an integer, got " + kindOf(env, value));
    return out;
}

bool boolean(napi_env env, napi_value value, const char* what) {
    if (typeOf(env, value) != napi_boolean) badArgument(std::string(what) + " must be true or false, got " + kindOf(env, value));
    bool b;
    check(napi_get_value_bool(env, value, &b));
    return b;
}

napi_value makeString(napi_env env, const std::string& text) {
    napi_value out;
    check(napi_create_string_utf8(env, text.data(), text.size(), &out));
    return out;
}

napi_value makeNumber(napi_env env, double value) {
    napi_value out;
    check(napi_create_double(env, value, &out));
    return out;
}

napi_value makeBool(napi_env env, bool value) {
    napi_value out;
    check(napi_get_boolean(env, value, &out));
    return out;
}

std::vector<at::Tensor> tensorList(napi_env env, napi_value value, const char* what, bool allowNull) {
    if (!isArray(env, value)) badArgument(std::string(what) + " must be an array of Tensors, got " + kindOf(env, value));
    std::vector<at::Tensor> list;
    eachElement(env, value, what, [&](napi_value element) {
        if (allowNull && typeOf(env, element) == napi_null) list.emplace_back();
        else list.push_back(tensorOf(env, element, what));
    });
    return list;
}

std::vector<int64_t> intList(napi_env env, napi_value value, const char* what) {
    if (!isArray(env, value)) badArgument(std::string(what) + " must be an array of integers, got " + kindOf(env, value));
    std::vector<int64_t> list;
    eachElement(env, value, what, [&](napi_value element) { list.push_back(integer(env, element, what)); });
    return list;
}

}  // namespace tessera
