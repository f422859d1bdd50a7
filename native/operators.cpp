// The one generic call: an operator resolved once by name and overload, its arguments converted by its own schema, and run boxed.
#include "bridge.h"

#include <ATen/core/stack.h>

#include <chrono>
#include <memory>

namespace tessera {

namespace {

struct Operator {
    c10::OperatorHandle handle;
    std::string name;  // "add.Tensor", without the aten:: in front
    std::vector<ArgumentSpec> arguments;
    std::vector<bool> returnsWritten;  // that return is one of the arguments, changed in place
    bool anyWritten = false;
    Guard guard = nullptr;
};

std::vector<std::unique_ptr<Operator>>& operators() {
    static auto* all = new std::vector<std::unique_ptr<Operator>>;
    return *all;
}

void splitName(const std::string& full, std::string& name, std::string& overload) {
    name = full.find("::") == std::string::npos ? "aten::" + full : full;
    overload.clear();
    auto start = name.find("::") + 2;
    auto dot = name.find('.', start);
    if (dot != std::string::npos) {
        overload = name.substr(dot + 1);
        name.resize(dot);
    }
}

std::string shortName(const std::string& full) { return full.rfind("aten::", 0) == 0 ? full.substr(6) : full; }

// resolveOperator("add.Tensor"): its number, or -1 when this libtorch has no such operator.
napi_value resolveOperator(napi_env env, size_t, napi_value* argv) {
    static auto* known = new std::unordered_map<std::string, size_t>;
    std::string full = utf8(env, argv[0]), name, overload;
    if (auto found = known->find(full); found != known->end()) return makeNumber(env, static_cast<double>(found->second));
    splitName(full, name, overload);
    auto found = c10::Dispatcher::singleton().findSchema({name, overload});
    if (!found) return makeNumber(env, -1);
    if (refusalOf(found->schema())) return makeNumber(env, -1);
    auto op = std::make_unique<Operator>(Operator{*found, shortName(full), {}, {}, false, guardOf(name)});
    const auto& schema = found->schema();
    for (const auto& argument : schema.arguments()) op->arguments.push_back(specOf(argument));
    for (const auto& result : schema.returns()) {
        bool written = result.alias_info() && result.alias_info()->isWrite();
        op->returnsWritten.push_back(written);
        op->anyWritten |= written;
    }
    operators().push_back(std::move(op));
    known->emplace(full, operators().size() - 1);
    return makeNumber(env, static_cast<double>(operators().size() - 1));
}

// refusal("name.overload"): why it cannot be called although this libtorch has it; null where it can, or where there is no such operator.
napi_value refusal(napi_env env, size_t, napi_value* argv) {
    std::string name, overload;
    splitName(utf8(env, argv[0]), name, overload);
    auto found = c10::Dispatcher::singleton().findSchema({name, overload});
    const char* reason = found ? refusalOf(found->schema()) : nullptr;
    if (reason) return makeString(env, reason);
    napi_value null;
    check(napi_get_null(env, &null));
    return null;
}

// The arguments given, in the order of the schema.
struct Values {
    const napi_value* data;
    size_t size;
};

std::string describeAll(napi_env env, const Operator& op, Values values) {
    std::string text;
    for (size_t i = 0; i < values.size && i < op.arguments.size(); ++i) {
        napi_valuetype type;
        check(napi_typeof(env, values.data[i], &type));
        if (type == napi_undefined) continue;
        text += (text.empty() ? "" : ", ") + op.arguments[i].name + ": " + describe(env, values.data[i]);
    }
    return text;
}

std::string describeSafely(napi_env env, const Operator& op, Values values) {
    try {
        return describeAll(env, op, values);
    } catch (...) {
        return "...";
    }
}

// A stack to call with. Stacks are used again, because making one costs an allocation a call; there are several, because a getter in an
// argument may call an operator while the arguments of another one are being read.
class BorrowedStack {
public:
    BorrowedStack() {
        if (depth_++ < kSpares) stack_ = &spares()[depth_ - 1];
        else stack_ = new torch::jit::Stack;
    }
    ~BorrowedStack() {
        if (--depth_ < kSpares) stack_->clear();
        else delete stack_;
    }
    BorrowedStack(const BorrowedStack&) = delete;
    BorrowedStack& operator=(const BorrowedStack&) = delete;
    torch::jit::Stack& operator*() { return *stack_; }

private:
    static constexpr size_t kSpares = 4;
    static torch::jit::Stack* spares() {
        static auto* all = new torch::jit::Stack[kSpares];
        return all;
    }
    static inline size_t depth_ = 0;
    torch::jit::Stack* stack_;
};

// Runs `op` on values in the order of its schema; undefined stands for the default.
napi_value invoke(napi_env env, const Operator& op, Values values) {
    BorrowedStack borrowed;
    torch::jit::Stack& stack = *borrowed;
    try {
        napi_value undefined = nullptr;
        for (size_t i = 0; i < op.arguments.size(); ++i) {
            napi_value value = i < values.size ? values.data[i] : nullptr;
            if (!value) {
                if (!undefined) check(napi_get_undefined(env, &undefined));
                value = undefined;
            }
            stack.push_back(toIValue(env, value, op.arguments[i]));
        }
        if (op.guard) op.guard(op.arguments, stack);
        State& s = state();
        if (s.timing) {
            auto start = std::chrono::steady_clock::now();
            op.handle.callBoxed(stack);
            s.nanoseconds += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count());
            s.calls++;
        } else {
            op.handle.callBoxed(stack);
        }
        if (stack.empty()) return nullptr;
        auto result = [&](size_t i) -> napi_value {
            const c10::IValue& value = stack[i];
            // x.add_(1) === x: an operator that changes its argument returns the same handle.
            if (op.anyWritten && i < op.returnsWritten.size() && op.returnsWritten[i] && value.isTensor()) {
                for (size_t k = 0; k < values.size; ++k) {
                    TensorBox* box = boxOf(env, values.data[k]);
                    if (box && !box->disposed && box->tensor.is_same(value.toTensor())) return values.data[k];
                }
            }
            return toJs(env, value);
        };
        if (stack.size() == 1) return result(0);
        napi_value out;
        check(napi_create_array_with_length(env, stack.size(), &out));
        for (size_t i = 0; i < stack.size(); ++i) check(napi_set_element(env, out, static_cast<uint32_t>(i), result(i)));
        return out;
    } catch (const Pending&) {
        throw;
    } catch (const Failure& failure) {
        throwCurrent(env, failure.kind == ErrorKind::OutOfMemory ? op.name + "(" + describeSafely(env, op, values) + ")" : op.name);
        throw Pending{};
    } catch (...) {
        throwCurrent(env, op.name + "(" + describeSafely(env, op, values) + ")");
        throw Pending{};
    }
}

const Operator& operatorAt(napi_env env, napi_value value) {
    int64_t id = integer(env, value, "operator id");
    if (id < 0 || id >= static_cast<int64_t>(operators().size())) badArgument("internal: no operator has the number " + std::to_string(id));
    return *operators()[static_cast<size_t>(id)];
}

// call(id, ...arguments in the schema's order)
napi_value call(napi_env env, size_t argc, napi_value* argv) {
    const Operator& op = operatorAt(env, argv[0]);
    const Values values{argv + 1, std::max<size_t>(argc, 1) - 1};
    if (values.size > op.arguments.size())
        badArgument(op.name + " takes " + std::to_string(op.arguments.size()) + " arguments, got " + std::to_string(values.size));
    return invoke(env, op, values);
}

// callNamed(id, positional[], { name: value }): keyword arguments go where the schema says, whatever the libtorch version.
napi_value callNamed(napi_env env, size_t, napi_value* argv) {
    const Operator& op = operatorAt(env, argv[0]);
    uint32_t count = 0;
    check(napi_get_array_length(env, argv[1], &count));
    if (count > op.arguments.size())
        badArgument(op.name + " takes " + std::to_string(op.arguments.size()) + " arguments, got " + std::to_string(count));
    std::vector<napi_value> values(op.arguments.size(), nullptr);
    napi_value undefined;
    check(napi_get_undefined(env, &undefined));
    for (auto& value : values) value = undefined;
    for (uint32_t i = 0; i < count; ++i) check(napi_get_element(env, argv[1], i, &values[i]));
    napi_value keys;
    check(napi_get_property_names(env, argv[2], &keys));
    uint32_t keyCount = 0;
    check(napi_get_array_length(env, keys, &keyCount));
    for (uint32_t k = 0; k < keyCount; ++k) {
        napi_value key, value;
        check(napi_get_element(env, keys, k, &key));
        std::string name = utf8(env, key);
        check(napi_get_property(env, argv[2], key, &value));
        size_t index = 0;
        while (index < op.arguments.size() && op.arguments[index].name != name) ++index;
        if (index == op.arguments.size()) {
            std::string known;
            for (const auto& argument : op.arguments) known += (known.empty() ? "" : ", ") + argument.name;
            badArgument(op.name + " has no argument '" + name + "'; it has: " + known);
        }
        if (index < count) badArgument(op.name + " got argument '" + name + "' twice, by position and by name");
        values[index] = value;
    }
    return invoke(env, op, {values.data(), values.size()});
}

napi_value schemaOf(napi_env env, size_t, napi_value* argv) {
    const Operator& op = operatorAt(env, argv[0]);
    napi_value out, list;
    check(napi_create_object(env, &out));
    check(napi_create_array_with_length(env, op.arguments.size(), &list));
    for (size_t i = 0; i < op.arguments.size(); ++i) {
        const auto& argument = op.arguments[i];
        napi_value each;
        check(napi_create_object(env, &each));
        check(napi_set_named_property(env, each, "name", makeString(env, argument.name)));
        check(napi_set_named_property(env, each, "type", makeString(env, argument.type)));
        check(napi_set_named_property(env, each, "hasDefault", makeBool(env, argument.hasDefault)));
        check(napi_set_named_property(env, each, "fixedLength", makeNumber(env, argument.fixedLength)));
        check(napi_set_named_property(env, each, "supported", makeBool(env, argument.kind != Kind::Unsupported)));
        check(napi_set_element(env, list, static_cast<uint32_t>(i), each));
    }
    check(napi_set_named_property(env, out, "name", makeString(env, op.name)));
    check(napi_set_named_property(env, out, "arguments", list));
    check(napi_set_named_property(env, out, "text", makeString(env, c10::toString(op.handle.schema()))));
    return out;
}

// listOperators(all): every "namespace::name.overload" that can be called; with `all`, also those that are refused.
napi_value listOperators(napi_env env, size_t, napi_value* argv) {
    const bool all = boolean(env, argv[0], "all");
    napi_value out;
    check(napi_create_array(env, &out));
    uint32_t count = 0;
    for (const auto& name : c10::Dispatcher::singleton().getAllOpNames()) {
        auto found = c10::Dispatcher::singleton().findSchema(name);
        if (!found || (!all && refusalOf(found->schema()))) continue;
        std::string full = name.name + (name.overload_name.empty() ? "" : "." + name.overload_name);
        check(napi_set_element(env, out, count++, makeString(env, full)));
    }
    return out;
}

// setTiming(on): counts the time spent inside libtorch; callStats() reads it. For the benchmarks.
napi_value setTiming(napi_env env, size_t, napi_value* argv) {
    State& s = state();
    s.timing = boolean(env, argv[0], "setTiming");
    s.calls = s.nanoseconds = 0;
    return nullptr;
}

napi_value callStats(napi_env env, size_t, napi_value*) {
    napi_value out;
    check(napi_create_object(env, &out));
    check(napi_set_named_property(env, out, "calls", makeNumber(env, static_cast<double>(state().calls))));
    check(napi_set_named_property(env, out, "milliseconds", makeNumber(env, static_cast<double>(state().nanoseconds) / 1e6)));
    return out;
}

}  // namespace

void exportOperators(napi_env env, napi_value exports) {
    addFunction(env, exports, "resolveOperator", guarded<resolveOperator>);
    addFunction(env, exports, "refusal", guarded<refusal>);
    addFunction(env, exports, "call", guarded<call>);
    addFunction(env, exports, "callNamed", guarded<callNamed>);
    addFunction(env, exports, "schemaOf", guarded<schemaOf>);
    addFunction(env, exports, "listOperators", guarded<listOperators>);
    addFunction(env, exports, "setTiming", guarded<setTiming>);
    addFunction(env, exports, "callStats", guarded<callStats>);
}

}  // namespace tessera
